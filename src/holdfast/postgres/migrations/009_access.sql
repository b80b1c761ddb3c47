-- Holdfast migration 009_access
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 009_access.sql
-- It is one statement and so one transaction, it may be run any number of times, and it records itself in
-- holdfast.schema_migrations: once it is on record, running it again does nothing.
DO $holdfast$
BEGIN
    SET LOCAL lock_timeout = '3s';
    SET LOCAL client_min_messages = warning;
    PERFORM pg_advisory_xact_lock(hashtextextended('holdfast.migrations', 0));
    -- The catalog's tables are read, not asked through to_regclass: its cache may be older than the lock.
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'holdfast' AND c.relname = 'schema_migrations') THEN
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 9) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Who may do what, said once for all of the schema, however it came about. Runs at the end of each migration; may be run by
-- hand at any time by the schema's owner, for example after one of the roles was made.
--
--   holdfast_app   the group role for ordinary Postgres: GRANT holdfast_app TO your_login. Made here where the migrating
--                  role may make roles.
--   service_role   Supabase's role for servers, where there is one. It sees the schema only through the functions
--                  public.holdfast_*, since PostgREST serves public.
--
-- Row level security is on, with a policy for holdfast_app alone. Nobody else gets anything: not PUBLIC, anon or
-- authenticated. Grants are given one by one, since Supabase gives none by itself any more (from 30 October 2026 on), and
-- what its older projects gave by themselves is taken back. Only what is missing is changed, so that nothing is locked for
-- nothing: row level security takes a table's whole lock for a moment, once in its life.
CREATE OR REPLACE FUNCTION holdfast.secure_schema() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _each   record;
    _role   text;
    _ours   text[];
    _others text[] := ARRAY['PUBLIC'] || ARRAY(
        SELECT quote_ident(r.rolname) FROM pg_catalog.pg_roles r WHERE r.rolname IN ('anon', 'authenticated'));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'holdfast_app') THEN
        BEGIN
            CREATE ROLE holdfast_app NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN
            NULL; -- somebody else made it just now, or must make it
        END;
    END IF;
    _ours := ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname IN ('holdfast_app', 'service_role'));

    FOR _each IN
        SELECT c.oid, c.relname, c.relkind, c.relrowsecurity
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
        ORDER BY c.oid
    LOOP
        IF _each.relkind IN ('r', 'p') AND NOT _each.relrowsecurity THEN
            EXECUTE format('ALTER TABLE holdfast.%I ENABLE ROW LEVEL SECURITY', _each.relname);
        END IF;
        IF _each.relkind IN ('r', 'p') AND 'holdfast_app' = ANY (_ours)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = _each.oid AND p.polname = 'holdfast_app') THEN
            EXECUTE format('CREATE POLICY holdfast_app ON holdfast.%I TO holdfast_app USING (true) WITH CHECK (true)',
                           _each.relname);
        END IF;
        FOREACH _role IN ARRAY _others LOOP
            EXECUTE format('REVOKE ALL ON holdfast.%I FROM %s', _each.relname, _role);
        END LOOP;
        FOREACH _role IN ARRAY _ours LOOP
            EXECUTE format('GRANT %s ON holdfast.%I TO %I', CASE
                WHEN _each.relkind = 'S' THEN 'USAGE'
                WHEN _each.relkind = 'v' OR _each.relname = 'schema_migrations' THEN 'SELECT'
                ELSE 'SELECT, INSERT, UPDATE, DELETE' END, _each.relname, _role);
        END LOOP;
    END LOOP;

    FOREACH _role IN ARRAY _others LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA holdfast FROM %s', _role);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM %s', _role);
    END LOOP;
    FOREACH _role IN ARRAY _ours LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA holdfast TO %I', _role);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA holdfast TO %I', _role);
    END LOOP;

    -- In public: what callers over HTTPS call, and the names that people look for (see offer_stale_jobs).
    FOR _each IN
        SELECT 'FUNCTION ' || p.oid::regprocedure AS name, 'EXECUTE' AS privilege, p.proname LIKE 'holdfast\_%' AS is_remote
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'public' AND pg_has_role(p.proowner, 'USAGE')
          AND (p.proname LIKE 'holdfast\_%' OR p.proname = 'find_stale_jobs' AND p.prosrc LIKE '%holdfast.find_stale_jobs(%')
        UNION ALL
        SELECT c.oid::regclass::text, 'SELECT', false
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND pg_has_role(c.relowner, 'USAGE') AND c.relname = 'stale_jobs_view' AND c.relkind = 'v'
          AND pg_get_viewdef(c.oid) LIKE '%holdfast.find_stale_jobs(%'
    LOOP
        FOREACH _role IN ARRAY _others LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', _each.name, _role);
        END LOOP;
        FOREACH _role IN ARRAY _ours LOOP
            IF _role = 'service_role' OR NOT _each.is_remote THEN
                EXECUTE format('GRANT %s ON %s TO %I', _each.privilege, _each.name, _role);
            END IF;
        END LOOP;
    END LOOP;
END
$function$;

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

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (9, '009_access', '850ebeeaf90911166028200b7f3b24172aee1500375471b8eb1d187bafeb6d86');
END
$holdfast$;
