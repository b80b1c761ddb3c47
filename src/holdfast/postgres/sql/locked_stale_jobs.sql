-- Jobs that have been due for rescue for over a minute and that no sweep could take, since somebody holds their row locked:
-- who that is. The holder's transaction id stands in the row's xmax; where several hold it, it is not resolved (null).
-- RPC locked_stale_jobs(stale_after interval)
-- RETURNS TABLE (id uuid, reason text, pid integer, application_name text, state text, since timestamptz)
SELECT s.id, s.reason, a.pid, a.application_name, a.state, a.xact_start
FROM holdfast.stale_jobs(%(stale_after)s::interval, 1000, false, '00000000-0000-0000-0000-000000000000',
                         '00000000-0000-0000-0000-000000000000') AS s
JOIN holdfast.jobs j ON j.id = s.id
LEFT JOIN holdfast.workers w ON w.id = s.worker_id
LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = j.xmax
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE j.xmax <> '0'::xid
  AND (SELECT holdfast.clock()) - interval '1 minute' > CASE s.reason
      WHEN 'worker_gone' THEN w.gone_at
      WHEN 'deadline_passed' THEN s.deadline_at
      ELSE s.heartbeat_at + least(j.silent_after, %(stale_after)s::interval) END
LIMIT 100
