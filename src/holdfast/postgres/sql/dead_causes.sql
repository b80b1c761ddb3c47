-- Dead letters by cause and how many came within the last hour, day and week: of the newest 20,000, the 20 causes with most.
SELECT d.fingerprint, min(d.kind), min(d.cause), min(d.queue), min(d.source),
       count(*) FILTER (WHERE d.at > d.now - interval '1 hour'), count(*) FILTER (WHERE d.at > d.now - interval '1 day'),
       count(*) FILTER (WHERE d.at > d.now - interval '7 days'), count(*), max(d.at), (array_agg(d.job_id ORDER BY d.at DESC))[1]
FROM (SELECT l.fingerprint, l.kind, l.cause, l.queue, l.source, l.job_id, coalesce(l.sent_at, l.first_seen_at) AS at,
             (SELECT holdfast.clock()) AS now
      FROM holdfast.dead_letters l WHERE l.gone_at IS NULL LIMIT 20000) d
GROUP BY d.fingerprint
ORDER BY count(*) FILTER (WHERE d.at > d.now - interval '1 day') DESC, count(*) DESC, d.fingerprint
LIMIT 20
