-- Take back what one identity was granted at `granted_at` (the stamp of an answer), as if it had never been. Whether
-- there was anything to change.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_refund(
    policy_name text, identity uuid, granted_at bigint, cost integer,
    mosts integer[], spans bigint[], kinds text[], bursts integer[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _row   holdfast.rate_limit_requests;
    _floor bigint;
BEGIN
    SELECT r.* INTO _row FROM holdfast.rate_limit_requests r
    WHERE r.policy = policy_name AND r.key = identity FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT coalesce(max(p.sum) FILTER (WHERE p.stamp < granted_at), _row.base) INTO _floor
    FROM unnest(_row.stamps, _row.sums) AS p (stamp, sum);
    _row.sums := ARRAY(SELECT CASE WHEN p.stamp < granted_at THEN p.sum ELSE greatest(p.sum - cost, _floor) END
                       FROM unnest(_row.stamps, _row.sums) WITH ORDINALITY AS p (stamp, sum, n) ORDER BY p.n);
    IF cardinality(_row.stamps) = 0 THEN
        _row.base := _row.base - cost;
    END IF;
    FOR _i IN 1 .. coalesce(cardinality(_row.marks), 0) / 2 LOOP
        IF kinds[_i] = 'gcra' THEN
            _row.marks[2 * _i - 1] := _row.marks[2 * _i - 1] - floor(cost::double precision * spans[_i] / mosts[_i]);
        ELSIF kinds[_i] = 'fixed' AND _row.marks[2 * _i - 1] > granted_at THEN
            _row.marks[2 * _i] := _row.marks[2 * _i] - cost;
        END IF;
    END LOOP;
    UPDATE holdfast.rate_limit_requests r SET base = _row.base, sums = _row.sums, marks = _row.marks
    WHERE r.policy = policy_name AND r.key = identity;
    RETURN true;
END
$function$;
