-- What an examination wants to know of the server and of this connection to it.
SELECT clock_timestamp(), current_setting('server_version_num')::integer, current_setting('max_connections')::integer,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'client backend'),
       (SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()),
       pg_is_in_recovery(), current_user::text,
       EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'holdfast_test')
