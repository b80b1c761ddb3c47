-- The open incidents of some kinds, the oldest first, as `dead_letter_groups` has them.
-- RPC open_incidents(kinds text[])
-- RETURNS TABLE (kind text, key text, title text, arrivals bigint, open_for numeric)
SELECT i.kind, i.key, i.title, i.arrivals, extract(epoch FROM (SELECT holdfast.clock()) - i.opened_at)
FROM holdfast.incidents i
WHERE i.status = 'open' AND i.kind = ANY (%(kinds)s::text[])
ORDER BY i.opened_at, i.key
LIMIT 1000
