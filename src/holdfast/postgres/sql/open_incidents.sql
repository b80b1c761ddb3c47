-- The open incidents of some kinds, the oldest first, as `dead_letter_groups` has them.
SELECT i.kind, i.key, i.title, i.arrivals, extract(epoch FROM (SELECT holdfast.clock()) - i.opened_at)
FROM holdfast.incidents i
WHERE i.status = 'open' AND i.kind = ANY (%(kinds)s::text[])
ORDER BY i.opened_at, i.key
LIMIT 1000
