-- The kinds that live workers know.
-- RPC live_kinds() RETURNS SETOF text
SELECT DISTINCT k.name
FROM holdfast.workers w
CROSS JOIN LATERAL unnest(w.kinds) AS k (name)
WHERE w.gone_at IS NULL
ORDER BY k.name
LIMIT 1000
