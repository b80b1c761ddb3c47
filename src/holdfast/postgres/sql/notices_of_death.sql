-- Who was told that a job went dead, and who is still to be told.
-- RPC notices_of_death(job_id uuid)
-- RETURNS TABLE (channel text, delivered_at timestamptz, error text)
SELECT n.channel, n.delivered_at, n.error
FROM holdfast.dead_letters d
JOIN holdfast.incidents i ON i.kind = 'dead_letters' AND i.key = d.fingerprint
JOIN holdfast.notifications n ON n.incident_id = i.id AND n.reason = 'first'
WHERE d.source = 'job' AND d.job_id = %(job_id)s::text
ORDER BY n.channel
