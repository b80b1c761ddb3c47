-- When keys were used last, to the minute: who else notes the same one at this moment does it for both.
-- RPC note_api_key_use(ids text[]) RETURNS SETOF text
UPDATE holdfast.api_keys AS k
SET last_used_at = (SELECT holdfast.clock())
WHERE k.id = ANY (ARRAY(
    SELECT u.id FROM holdfast.api_keys u
    WHERE u.id = ANY (%(ids)s::text[])
      AND (u.last_used_at IS NULL OR u.last_used_at < (SELECT holdfast.clock()) - interval '1 minute')
    FOR UPDATE SKIP LOCKED))
RETURNING k.id
