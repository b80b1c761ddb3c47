-- The next ids that a filter matches, in their order, behind `after` and up to `last`: one bounded step of acting on all.
-- RPC matching_ids(statuses text[], queue text, kind text, error text, key text, newer interval, older interval,
-- "after" uuid, last uuid, "limit" bigint) RETURNS SETOF uuid
SELECT j.id
FROM holdfast.jobs j
WHERE j.status = ANY (%(statuses)s::text[])
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s)
  AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
  AND (%(key)s::text IS NULL OR %(key)s IN (j.unique_key, j.group_key, j.limit_key))
  AND (%(newer)s::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - %(newer)s)
  AND (%(older)s::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - %(older)s)
  AND j.id > %(after)s AND j.id <= %(last)s
ORDER BY j.id
LIMIT %(limit)s
