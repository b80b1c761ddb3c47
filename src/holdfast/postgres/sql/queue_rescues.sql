-- The rescues and fenced late writes of one queue's jobs; when each rescued job was claimed again (by the next event of
-- that job, where there is one, else by its row); and whether the rescue was false.
SELECT e.job_id, e.event, e.reason, e.worker_id, e.lease, e.at,
       coalesce(
           (SELECT (n.details ->> 'claimed_at')::timestamptz
            FROM holdfast.job_events n
            WHERE n.job_id = e.job_id AND n.id > e.id AND n.event IN ('rescue', 'crash', 'failure', 'snooze')
            ORDER BY n.id LIMIT 1),
           CASE WHEN j.claimed_at > e.at THEN j.claimed_at END) AS next_claimed_at,
       coalesce(holdfast.is_false_rescue(e.reason, e.at, e.details, w.gone_at, w.gone_reason, w.seen_at, w.lost_after,
                                         j.timeout, j.silent_after, interval '10 minutes'), false) AS is_false
FROM holdfast.jobs j
JOIN holdfast.job_events e ON e.job_id = j.id
LEFT JOIN holdfast.workers w ON w.id = e.worker_id
WHERE j.queue = %(queue)s AND e.event IN ('rescue', 'crash', 'fenced_late_write')
ORDER BY e.id
