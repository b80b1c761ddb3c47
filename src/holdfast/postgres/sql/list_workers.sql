-- Worker processes, live ones first, then the most recently gone; with what the live ones hold.
-- RPC list_workers(gone boolean, "limit" bigint)
-- RETURNS TABLE (id uuid, host text, pid integer, version text, queues text[], kinds text[], slots integer,
-- quarantine boolean, started_at timestamptz, seen_at timestamptz, lost_after interval, loop_lag interval,
-- draining boolean, gone_at timestamptz, gone_reason text, gone_is_crash boolean, running bigint)
SELECT w.id, w.host, w.pid, w.version, w.queues, w.kinds, w.slots, w.quarantine, w.started_at, w.seen_at, w.lost_after,
       w.loop_lag, w.draining, w.gone_at, w.gone_reason, w.gone_is_crash,
       (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running' AND j.worker_id = w.id) AS running
FROM holdfast.workers w
WHERE w.gone_at IS NULL OR %(gone)s
ORDER BY w.gone_at DESC NULLS FIRST, w.started_at, w.id
LIMIT %(limit)s
