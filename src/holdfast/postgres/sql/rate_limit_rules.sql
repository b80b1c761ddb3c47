-- Who is always admitted, who never, and who has other limits.
-- RPC rate_limit_rules(key uuid, "limit" bigint)
-- RETURNS TABLE (policy text, identity uuid, verdict text, limits text[], until timestamptz, note text)
SELECT r.policy, r.key, r.verdict,
       ARRAY(SELECT l.most || ';w=' || trim_scale(round(l.span / 1e6, 6)) || CASE l.kind WHEN 'log' THEN '' ELSE ';' || l.kind END
             FROM unnest(r.mosts, r.spans, r.kinds) WITH ORDINALITY AS l (most, span, kind, n) ORDER BY l.n),
       r.until, r.note
FROM holdfast.rate_limit_rules r
WHERE (r.key = %(key)s::uuid OR %(key)s::uuid IS NULL) AND (r.until IS NULL OR r.until > (SELECT holdfast.clock()))
ORDER BY r.created_at DESC, r.policy, r.key
LIMIT %(limit)s
