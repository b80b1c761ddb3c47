-- Holdfast migration 016_examination
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 016_examination.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 16) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- A canary that died as it was meant to leaves nothing behind.
CREATE OR REPLACE FUNCTION holdfast.forget_canary(id uuid) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DELETE FROM holdfast.jobs WHERE id = $1::uuid AND kind = 'holdfast.canary' AND status = 'dead' RETURNING id
$function$;

-- The longest time that a live worker has been silent, as a share of what it may be before it is declared gone.
CREATE OR REPLACE FUNCTION holdfast.longest_silence() RETURNS TABLE (share double precision, seconds double precision)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT max(extract(epoch FROM holdfast.clock() - w.seen_at) / extract(epoch FROM w.lost_after))::double precision,
       max(extract(epoch FROM holdfast.clock() - w.seen_at))::double precision
FROM holdfast.workers w
WHERE w.gone_at IS NULL AND NOT w.quarantine
$function$;

-- What this role may not do that Holdfast does: statements that would grant it.
CREATE OR REPLACE FUNCTION holdfast.missing_grants() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT 'GRANT SELECT, INSERT, UPDATE, DELETE ON holdfast.' || quote_ident(c.relname) || ' TO ' || quote_ident(current_user)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind = 'r'
  AND NOT (has_table_privilege(c.oid, 'SELECT')
           -- What was applied is the owner's to write.
           AND (c.relname = 'schema_migrations' OR has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))
UNION ALL
SELECT 'GRANT EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' TO ' || quote_ident(current_user)
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'holdfast'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1
LIMIT 1000
$function$;

-- Who was told that a job went dead, and who is still to be told.
CREATE OR REPLACE FUNCTION holdfast.notices_of_death(job_id uuid)
    RETURNS TABLE (channel text, delivered_at timestamptz, error text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT n.channel, n.delivered_at, n.error
FROM holdfast.dead_letters d
JOIN holdfast.incidents i ON i.kind = 'dead_letters' AND i.key = d.fingerprint
JOIN holdfast.notifications n ON n.incident_id = i.id AND n.reason = 'first'
WHERE d.source = 'job' AND d.job_id = $1::text
ORDER BY n.channel
$function$;

-- Tables of which row-level security shows this role nothing, since no policy is for it; and roles of strangers that may
-- look into the schema.
CREATE OR REPLACE FUNCTION holdfast.row_security() RETURNS TABLE (what text, name text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT 'hidden', c.relname::text
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind = 'r' AND row_security_active(c.oid)
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_policy p CROSS JOIN LATERAL unnest(p.polroles) AS r (role)
      WHERE p.polrelid = c.oid AND (r.role = 0 OR pg_has_role(r.role, 'MEMBER')))
UNION ALL
SELECT 'exposed', r.rolname::text
FROM pg_catalog.pg_roles r
WHERE r.rolname IN ('anon', 'authenticated') AND has_schema_privilege(r.oid, 'holdfast', 'USAGE')
ORDER BY 1, 2
$function$;

-- What an examination wants to know of the server and of this connection to it. Of other roles' sessions a role without
-- special rights sees whose they are and where, and not of which kind.
CREATE OR REPLACE FUNCTION holdfast.server_facts() RETURNS TABLE (clock timestamptz, version integer, max_connections integer, connections bigint,
    is_encrypted boolean, is_standby boolean, role text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT clock_timestamp(), current_setting('server_version_num')::integer, current_setting('max_connections')::integer,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL),
       (SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()),
       pg_is_in_recovery(), current_user::text
$function$;

-- The schema's catalog (see schema_catalog) as one value, [[kind, name, definition], ...]: over HTTPS an answer has at most
-- 1,000 rows, by Supabase's default, and a schema with more objects would seem to lack the rest.
CREATE OR REPLACE FUNCTION holdfast.describe_schema() RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_agg(jsonb_build_array(c.kind, c.name, c.definition)) FROM holdfast.schema_catalog() AS c
$function$;

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

SELECT holdfast.expose_functions(ARRAY['describe_schema', 'forget_canary', 'longest_silence', 'missing_grants', 'notices_of_death', 'row_security', 'server_facts']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (16, '016_examination', '2be92168bccaa3ca87c184bb6ef4553c0ee8c1615c3b673832ff2af52aca9dc7');
END
$holdfast$;
