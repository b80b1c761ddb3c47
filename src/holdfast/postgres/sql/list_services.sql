-- The services that were seen within the last minute.
SELECT s.id, s.name, s.host, s.pid, s.version, s.folder, s.settings_hash, s.address, s.bell_url, s.started_at, s.seen_at
FROM holdfast.services s
WHERE s.seen_at > (SELECT holdfast.clock()) - interval '1 minute'
ORDER BY s.host, s.name, s.started_at
LIMIT 500
