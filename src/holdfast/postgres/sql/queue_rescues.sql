-- The rescues and fenced late writes of one queue's jobs; when each rescued job was claimed again (by the next event of
-- that job, where there is one, else by its row); and whether the rescue was false: by the ledger's own timestamps, the
-- worker was neither seen to end, nor silent for its lost_after, nor the job past its limits.
SELECT e.job_id, e.event, e.reason, e.worker_id, e.lease, e.at,
       coalesce(
           (SELECT (n.details ->> 'claimed_at')::timestamptz
            FROM holdfast.job_events n
            WHERE n.job_id = e.job_id AND n.id > e.id AND n.event IN ('rescue', 'crash', 'failure', 'snooze')
            ORDER BY n.id LIMIT 1),
           CASE WHEN j.claimed_at > e.at THEN j.claimed_at END) AS next_claimed_at,
       CASE e.reason
           WHEN 'worker_gone' THEN w.gone_at IS NULL OR w.gone_at > e.at
               OR (w.gone_reason = 'lapsed' AND w.gone_at < w.seen_at + w.lost_after)
           WHEN 'deadline_passed' THEN
               e.at < (e.details ->> 'claimed_at')::timestamptz + j.timeout + interval '30 seconds'
           WHEN 'no_heartbeat' THEN
               e.at < (e.details ->> 'last_sign_of_life')::timestamptz + least(j.silent_after, interval '10 minutes')
           ELSE false END AS is_false
FROM holdfast.jobs j
JOIN holdfast.job_events e ON e.job_id = j.id
LEFT JOIN holdfast.workers w ON w.id = e.worker_id
WHERE j.queue = %(queue)s AND e.event IN ('rescue', 'crash', 'fenced_late_write')
ORDER BY e.id
