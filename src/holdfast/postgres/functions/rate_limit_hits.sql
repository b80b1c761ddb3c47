-- Ask for requests to be admitted: for each identity so many units of a policy, of which no window of the policy's length
-- may ever hold more than its limit (an exact sliding log; promise P9). Where `whole` is set, all units or none are
-- granted; else as many as there is room for. What is refused costs nothing.
-- Rows are locked in the order of their keys, and an identity may stand in one call only once. The clock is the
-- database's, read once; a stamp is never older than the one before it, so waiting for a lock admits nobody too early,
-- and stamps that a clock set back has left in the future count from now on.
-- A commit of this call need not be on disk: after a crash of Postgres, what was granted in its last moments may be
-- granted again. Returns, in the order asked: what was granted, what is left, when one more unit would be
-- granted, and when all of them will be (seconds from now).
CREATE OR REPLACE FUNCTION holdfast.rate_limit_hits(
    policies text[], keys text[], units integer[], limits integer[], windows interval[], whole boolean[]
) RETURNS TABLE (place integer, granted integer, remaining integer, retry_after double precision, reset_after double precision)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _micro bigint := (extract(epoch FROM _now) * 1000000)::bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT a.place::integer, a.policy, a.key, a.units, a.max, (extract(epoch FROM a.span) * 1000000)::bigint AS span,
               a.whole
        FROM unnest(policies, keys, units, limits, windows, whole) WITH ORDINALITY
            AS a (policy, key, units, max, span, whole, place)
    ), hit AS (
        INSERT INTO holdfast.rate_limit_requests AS r (policy, key, stamps, granted, expires_at)
        SELECT a.policy, a.key, array_fill(_micro, ARRAY[g.units]), g.units, _now + make_interval(secs => a.span / 1e6)
        FROM asked a
        CROSS JOIN LATERAL (
            SELECT CASE WHEN a.units <= a.max THEN a.units WHEN a.whole THEN 0 ELSE a.max END AS units) g
        ORDER BY a.policy, a.key
        ON CONFLICT (policy, key) DO UPDATE
        SET (stamps, granted, expires_at) = (
            SELECT l.stamps || array_fill(l.at, ARRAY[g.units]), g.units,
                   greatest(r.expires_at, _now + make_interval(secs => a.span / 1e6))
            FROM asked a
            CROSS JOIN LATERAL (
                SELECT coalesce(array_agg(s.stamp ORDER BY s.stamp), '{}') AS stamps, greatest(max(s.stamp), _micro) AS at
                FROM (SELECT CASE WHEN u.stamp > _micro + 1000000 THEN _micro ELSE u.stamp END AS stamp
                      FROM unnest(r.stamps) AS u (stamp)) s
                WHERE s.stamp > _micro - a.span) l
            CROSS JOIN LATERAL (SELECT greatest(a.max - cardinality(l.stamps), 0) AS room) f
            CROSS JOIN LATERAL (
                SELECT CASE WHEN a.units <= f.room THEN a.units WHEN a.whole THEN 0 ELSE f.room END AS units) g
            WHERE a.policy = r.policy AND a.key = r.key)
        RETURNING r.policy, r.key, r.stamps, r.granted
    )
    SELECT a.place, h.granted, greatest(a.max - cardinality(h.stamps), 0),
           CASE WHEN cardinality(h.stamps) + n.next > a.max
                THEN greatest(h.stamps[cardinality(h.stamps) + n.next - a.max] + a.span - _micro, 0) / 1e6
                ELSE 0 END::double precision,
           (greatest(coalesce(h.stamps[cardinality(h.stamps)], 0) + a.span - _micro, 0) / 1e6)::double precision
    FROM asked a
    JOIN hit h ON h.policy = a.policy AND h.key = a.key
    CROSS JOIN LATERAL (SELECT CASE WHEN a.whole THEN least(a.units, a.max) ELSE 1 END AS next) n
    ORDER BY a.place;
END
$function$;
