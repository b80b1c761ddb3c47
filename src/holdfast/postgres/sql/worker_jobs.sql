-- What a worker runs now, the oldest first.
SELECT j.id, j.kind, j.queue, j.claimed_at, j.heartbeat_at, j.deadline_at
FROM holdfast.jobs j
WHERE j.status = 'running' AND j.worker_id = %(worker_id)s
ORDER BY j.claimed_at, j.id
LIMIT 100
