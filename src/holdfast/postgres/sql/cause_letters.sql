-- The dead letters of one cause that are there, the newest first, with the error of their job where it is in the ledger.
SELECT d.id, d.source, d.queue, d.key, d.job_id, d.kind, d.cause, d.received, coalesce(d.sent_at, d.first_seen_at), d.attributes,
       d.body, j.error
FROM (SELECT l.* FROM holdfast.dead_letters l
      WHERE l.fingerprint = %(fingerprint)s AND l.gone_at IS NULL LIMIT 20000) d
LEFT JOIN holdfast.jobs j
    ON d.source = 'job' AND j.id = CASE WHEN d.source = 'job' THEN d.job_id::uuid END
ORDER BY coalesce(d.sent_at, d.first_seen_at) DESC, d.id
LIMIT %(limit)s
