-- The incidents of some kinds that are open, the oldest first, as `dead_letter_groups` has them; and those that were resolved
-- within the last hour: what comes back soon is the same incident again.
-- RPC open_incidents(kinds text[])
-- RETURNS TABLE (kind text, key text, title text, arrivals bigint, open_for numeric, id uuid, version bigint, status text,
--     level integer, untold bigint, told_ago numeric, repeats integer, clean integer, clean_for numeric, reopened integer,
--     acknowledged boolean, silenced boolean)
SELECT i.kind, i.key, i.title, i.arrivals, extract(epoch FROM c.now - coalesce(i.reopened_at, i.opened_at)), i.id, i.version, i.status,
       i.level, i.untold, extract(epoch FROM c.now - i.told_at), i.repeats, i.clean, extract(epoch FROM c.now - i.clean_since),
       i.reopened, i.acknowledged_at IS NOT NULL, coalesce(i.silenced_until > c.now, false)
FROM (SELECT holdfast.clock() AS now) c
CROSS JOIN LATERAL (
    (SELECT o.* FROM holdfast.incidents o
     WHERE o.status = 'open' AND o.kind = ANY (%(kinds)s::text[])
     ORDER BY o.opened_at, o.key
     LIMIT 1000)
    UNION ALL
    (SELECT r.* FROM holdfast.incidents r
     WHERE r.status = 'resolved' AND r.kind = ANY (%(kinds)s::text[]) AND r.changed_at > c.now - interval '1 hour'
       AND NOT EXISTS (SELECT FROM holdfast.incidents o WHERE o.kind = r.kind AND o.key = r.key AND o.status = 'open')
     ORDER BY r.changed_at DESC
     LIMIT 1000)) i
ORDER BY i.status, i.changed_at DESC
