-- Worker processes, live ones first, then the most recently gone; with what the live ones hold.
SELECT w.id, w.host, w.pid, w.version, w.queues, w.kinds, w.slots, w.quarantine, w.started_at, w.seen_at, w.lost_after,
       w.loop_lag, w.draining, w.gone_at, w.gone_reason, w.gone_is_crash,
       (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running' AND j.worker_id = w.id) AS running
FROM holdfast.workers w
WHERE w.gone_at IS NULL OR %(gone)s
ORDER BY w.gone_at DESC NULLS FIRST, w.started_at, w.id
LIMIT %(limit)s
