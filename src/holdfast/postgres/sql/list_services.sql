-- The services that were seen within the last minute.
-- RPC list_services()
-- RETURNS TABLE (id uuid, name text, host text, pid integer, version text, folder text, settings_hash text, address text,
-- bell_url text, started_at timestamptz, seen_at timestamptz)
SELECT s.id, s.name, s.host, s.pid, s.version, s.folder, s.settings_hash, s.address, s.bell_url, s.started_at, s.seen_at
FROM holdfast.services s
WHERE s.seen_at > (SELECT holdfast.clock()) - interval '1 minute'
ORDER BY s.host, s.name, s.started_at
LIMIT 500
