-- What became of jobs over the last while, from the minutes that workers count: a row for each of the buckets that anything
-- happened in. Rows whose minute is 'infinity' are totals, and left out.
SELECT date_bin(%(bucket)s::interval, s.minute, '2000-01-01 00:00:00+00'), sum(s.succeeded)::bigint, sum(s.failed)::bigint,
       sum(s.dead)::bigint, sum(s.cancelled)::bigint
FROM holdfast.job_stats s
WHERE s.minute >= (SELECT holdfast.clock()) - %(span)s::interval AND s.minute < 'infinity'
  AND (%(queue)s::text IS NULL OR s.queue = %(queue)s)
GROUP BY 1
ORDER BY 1
