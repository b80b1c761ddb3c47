-- Make a log shorter and its numbers smaller. To drop a pair from the middle of a log moves its units to the time of the
-- next pair, which is later, so they leave every window later: no thinning can admit too much. Pairs of exact limits (up
-- to 250 places) all stay; of others one stays for each sixtieth of the window. The youngest always stays. Stamps
-- that a clock set back has left in the future count from now on.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_thin(
    now_micro bigint, INOUT base bigint, INOUT stamps bigint[], INOUT sums bigint[],
    mosts integer[], spans bigint[], kinds text[], first integer, last integer
) LANGUAGE sql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH pairs AS (
        SELECT p.n, least(p.stamp, now_micro) AS stamp, lead(least(p.stamp, now_micro)) OVER (ORDER BY p.n) AS next, p.sum,
               (SELECT min(CASE WHEN l.most <= 250 THEN 0 ELSE l.span / 60 END)
                FROM unnest(mosts[first:last], spans[first:last], kinds[first:last]) AS l (most, span, kind)
                WHERE l.kind = 'log' AND l.span > now_micro - p.stamp) AS grain
        FROM unnest(stamps, sums) WITH ORDINALITY AS p (stamp, sum, n)
    )
    SELECT base, coalesce(array_agg(p.stamp ORDER BY p.n), '{}'), coalesce(array_agg(p.sum ORDER BY p.n), '{}')
    FROM pairs p
    WHERE p.next IS NULL OR coalesce(p.grain, 0) = 0 OR p.stamp / p.grain <> p.next / p.grain
$function$;
