-- The client's transaction that has been open for longest, as far as this role may see: what keeps dead rows alive, and brings every
-- queue of a Postgres down. One row, or none.
CREATE OR REPLACE FUNCTION holdfast.oldest_transaction()
RETURNS TABLE (pid integer, application text, state text, age double precision)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
           extract(epoch FROM clock_timestamp() - a.xact_start)::double precision
    FROM pg_catalog.pg_stat_activity a
    WHERE a.backend_type = 'client backend' AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
    ORDER BY a.xact_start
    LIMIT 1;
$function$;
