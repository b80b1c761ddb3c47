-- The same for callers over HTTP (PostgREST, Supabase's RPC), which see only the schema public. It runs with its
-- owner's rights, and nobody may call it until granted: on Supabase the service role may.
CREATE OR REPLACE FUNCTION public.holdfast_check_rate_limit(
    key text, max_requests integer, window_seconds double precision DEFAULT 60, cost integer DEFAULT 1,
    policy text DEFAULT NULL
) RETURNS TABLE (allowed boolean, "limit" integer, remaining integer, retry_after double precision,
                 reset_after double precision)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT * FROM holdfast.check_rate_limit(key, max_requests, window_seconds, cost, policy)
$function$;
REVOKE ALL ON FUNCTION public.holdfast_check_rate_limit(text, integer, double precision, integer, text) FROM PUBLIC;
DO $grant$
DECLARE
    _role text;
BEGIN
    FOREACH _role IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = _role) THEN
            EXECUTE format(
                'REVOKE ALL ON FUNCTION public.holdfast_check_rate_limit(text, integer, double precision, integer, text)'
                ' FROM %I', _role);
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'service_role') THEN
        GRANT EXECUTE ON FUNCTION public.holdfast_check_rate_limit(text, integer, double precision, integer, text)
            TO service_role;
    END IF;
END
$grant$;
