-- Whole jobs, oldest first, for a program's tests.
SELECT j.id, j.queue, j.kind, j.args, j.status, j.priority, j.run_at, j.group_key, j.unique_key, j.limit_key,
       j.limit_max, j.lease, j.worker_id, j.attempts, j.max_attempts, j.crashes, j.max_crashes, j.shared_crashes,
       j.suspect, j.rescues, j.retry_policy, j.rescue_policy, j.timeout, j.silent_after, j.deadline_at,
       j.heartbeat_at, j.claimed_at, j.finished_at, j.settled_as, j.cancel_requested_at, j.progress, j.result,
       j.error, j.fingerprint, j.traceparent, j.created_at
FROM holdfast.jobs j
WHERE (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(status)s::text IS NULL OR j.status = %(status)s)
ORDER BY j.created_at, j.id
LIMIT %(limit)s
