-- Makes functions of this schema callable over HTTP: PostgREST (Supabase's Data API) serves the schema public, so each gets
-- a thin one of the same signature there, named holdfast_ and its name. It runs with its caller's rights, and who may call
-- it says secure_schema. Where the migrating role may not write to public, there is none, and nothing else lacks it.
CREATE OR REPLACE FUNCTION holdfast.expose_functions(names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _each record;
    _text text;
BEGIN
    IF to_regnamespace('public') IS NULL OR NOT has_schema_privilege('public', 'CREATE') THEN
        RETURN;
    END IF;
    FOR _each IN
        SELECT p.proname, p.proretset, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
               pg_get_function_identity_arguments(p.oid) AS identity,
               (SELECT coalesce(string_agg('$' || n, ', ' ORDER BY n), '') FROM generate_series(1, p.pronargs) AS n) AS given
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'holdfast'::regnamespace AND p.proname = ANY (names)
        ORDER BY p.proname
    LOOP
        _text := format(
            'CREATE OR REPLACE FUNCTION public.%I(%s) RETURNS %s LANGUAGE sql VOLATILE SECURITY INVOKER'
            ' SET search_path = pg_catalog, pg_temp AS %L',
            'holdfast_' || _each.proname, _each.arguments, _each.result,
            CASE WHEN _each.proretset THEN 'SELECT * FROM ' ELSE 'SELECT ' END
            || format('holdfast.%I(%s)', _each.proname, _each.given));
        BEGIN
            EXECUTE _text;
        EXCEPTION WHEN invalid_function_definition THEN -- it returns other columns than before
            EXECUTE format('DROP FUNCTION public.%I(%s)', 'holdfast_' || _each.proname, _each.identity);
            EXECUTE _text;
        END;
    END LOOP;
END
$function$;
