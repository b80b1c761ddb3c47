-- The running jobs whose last sign of life is the oldest, with their workers: the first to become stale.
SELECT j.id, j.kind, j.queue, j.claimed_at, j.heartbeat_at, j.deadline_at, j.worker_id, w.host, w.pid, w.seen_at, w.gone_at IS NOT NULL
FROM holdfast.jobs j
LEFT JOIN holdfast.workers w ON w.id = j.worker_id
WHERE j.status = 'running'
ORDER BY least(j.heartbeat_at, coalesce(w.seen_at, '-infinity')) NULLS FIRST, j.id
LIMIT %(limit)s
