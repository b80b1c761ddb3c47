-- What each queue's jobs came to within the last hour, by minute, from the minutes that workers count.
SELECT s.queue, date_bin('1 minute', s.minute, '2000-01-01 00:00:00+00'), sum(s.succeeded)::bigint,
       sum(s.failed + s.dead)::bigint
FROM holdfast.job_stats s
WHERE s.minute >= (SELECT holdfast.clock()) - interval '1 hour' AND s.minute < 'infinity'
GROUP BY 1, 2
ORDER BY 1, 2
LIMIT 20000
