-- A service tells that it is here, with what it was started.
-- RPC announce_service(id uuid, name text, host text, pid integer, version text, folder text, settings_hash text,
-- address text, bell_url text) RETURNS SETOF uuid
INSERT INTO holdfast.services AS s (id, name, host, pid, version, folder, settings_hash, address, bell_url, started_at,
    seen_at)
VALUES (%(id)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(folder)s, %(settings_hash)s, %(address)s, %(bell_url)s,
        (SELECT holdfast.clock()), (SELECT holdfast.clock()))
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
RETURNING s.id
