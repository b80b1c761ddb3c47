-- Gives find_stale_jobs() and stale_jobs_view their names in public as well, where these are free: that is where people, and
-- callers over HTTPS, look for them. What bears such a name already and is not ours stays as it is. May be run again at any
-- time by the schema's owner.
--
-- Neither is written a second time: the function calls ours, and the view is made of our view's own text, so that it
-- keeps nobody from making that one anew. They run with their caller's rights; who may use them says secure_schema.
CREATE OR REPLACE FUNCTION holdfast.offer_stale_jobs() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _ours CONSTANT text := '%holdfast.find_stale_jobs(%';
BEGIN
    IF to_regnamespace('public') IS NULL OR NOT has_schema_privilege('public', 'CREATE') THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname = 'find_stale_jobs'
          AND NOT (p.prosrc LIKE _ours AND pg_has_role(p.proowner, 'USAGE'))
    ) THEN
        EXECUTE (
            SELECT format('CREATE OR REPLACE FUNCTION public.find_stale_jobs(%s) RETURNS %s LANGUAGE sql STABLE'
                          ' SECURITY INVOKER SET search_path = pg_catalog, pg_temp'
                          ' AS ''SELECT * FROM holdfast.find_stale_jobs($1)''',
                          pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
            FROM pg_catalog.pg_proc p WHERE p.oid = 'holdfast.find_stale_jobs(interval)'::regprocedure);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname = 'stale_jobs_view'
          AND NOT (c.relkind = 'v' AND pg_get_viewdef(c.oid) LIKE _ours AND pg_has_role(c.relowner, 'USAGE'))
    ) THEN
        EXECUTE 'CREATE OR REPLACE VIEW public.stale_jobs_view WITH (security_invoker = true) AS '
                || pg_get_viewdef('holdfast.stale_jobs_view'::regclass);
    END IF;
END
$function$;
SELECT holdfast.offer_stale_jobs();
