-- What an examination wants to know of the server and of this connection to it. Of other roles' sessions a role without
-- special rights sees whose they are and where, and not of which kind.
-- RPC server_facts() RETURNS TABLE (clock timestamptz, version integer, max_connections integer, connections bigint,
-- is_encrypted boolean, is_standby boolean, role text)
SELECT clock_timestamp(), current_setting('server_version_num')::integer, current_setting('max_connections')::integer,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL),
       (SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()),
       pg_is_in_recovery(), current_user::text
