-- The server, for health checks. What other roles' sessions do is seen by members of pg_monitor only; others see less, and
-- never an error. Times in seconds; the lag is that of the slowest standby, or our own where this is one.
CREATE OR REPLACE FUNCTION holdfast.health_server()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object('postgres', (
        SELECT jsonb_build_object(
            'version', current_setting('server_version_num')::integer / 10000,
            'connections', count(*) FILTER (WHERE a.backend_type = 'client backend'),
            'max_connections', current_setting('max_connections')::integer,
            'oldest_transaction', coalesce(extract(epoch FROM max(clock_timestamp() - a.xact_start)
                FILTER (WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid())), 0),
            'standbys', (SELECT count(*) FROM pg_catalog.pg_stat_replication),
            'replication_lag', CASE
                WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
                ELSE (SELECT extract(epoch FROM max(r.replay_lag)) FROM pg_catalog.pg_stat_replication r) END)
        FROM pg_catalog.pg_stat_activity a));
END
$function$;
