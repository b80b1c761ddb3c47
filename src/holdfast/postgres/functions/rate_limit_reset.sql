-- Forget what an identity was admitted, under one policy or (NULL) all of them; how many counts that were.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_reset(identity uuid, policy_name text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _gone bigint;
BEGIN
    DELETE FROM holdfast.rate_limit_requests r
    WHERE r.key = identity AND (r.policy = policy_name OR policy_name IS NULL);
    GET DIAGNOSTICS _gone = ROW_COUNT;
    UPDATE holdfast.rate_limit_state s SET generation = s.generation + 1;
    RETURN _gone;
END
$function$;
