-- One job, whole.
-- RPC job(job_id uuid) RETURNS TABLE (id uuid, queue text, kind text, args jsonb, status text, priority smallint, run_at timestamptz, group_key text,
-- unique_key text, limit_key text, limit_max integer, lease bigint, worker_id uuid, attempts integer,
-- max_attempts integer, crashes integer, max_crashes integer, shared_crashes integer, suspect boolean,
-- rescues integer, retry_policy jsonb, rescue_policy text, timeout interval, silent_after interval,
-- deadline_at timestamptz, heartbeat_at timestamptz, claimed_at timestamptz, finished_at timestamptz,
-- settled_as text, cancel_requested_at timestamptz, progress jsonb, result jsonb, error jsonb, fingerprint text,
-- traceparent text, created_at timestamptz)
SELECT j.id, j.queue, j.kind, j.args, j.status, j.priority, j.run_at, j.group_key, j.unique_key, j.limit_key,
       j.limit_max, j.lease, j.worker_id, j.attempts, j.max_attempts, j.crashes, j.max_crashes, j.shared_crashes,
       j.suspect, j.rescues, j.retry_policy, j.rescue_policy, j.timeout, j.silent_after, j.deadline_at,
       j.heartbeat_at, j.claimed_at, j.finished_at, j.settled_as, j.cancel_requested_at, j.progress, j.result,
       j.error, j.fingerprint, j.traceparent, j.created_at
FROM holdfast.jobs j
WHERE j.id = %(job_id)s
