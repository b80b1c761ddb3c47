-- How the table of the counts is. An old transaction anywhere in its database keeps dead versions of hot rows alive, and
-- slows them; those of other databases and of vacuums do not.
-- RPC rate_limit_table()
-- RETURNS TABLE (identities bigint, table_bytes bigint, index_bytes bigint, hot_ratio double precision, dead_rows bigint,
-- oldest_transaction interval, oldest_pid integer, instances integer, is_full boolean)
SELECT s.n_live_tup, pg_relation_size(s.relid), pg_indexes_size(s.relid),
       s.n_tup_hot_upd::double precision / nullif(s.n_tup_upd, 0), s.n_dead_tup, t.age, t.pid,
       (SELECT count(*)::integer FROM holdfast.rate_limit_instances i
        WHERE i.seen_at > (SELECT holdfast.clock()) - interval '10 s'),
       (SELECT st.is_full FROM holdfast.rate_limit_state st)
FROM pg_stat_user_tables s
LEFT JOIN LATERAL (
    SELECT clock_timestamp() - a.xact_start AS age, a.pid FROM pg_stat_activity a
    WHERE a.backend_xmin IS NOT NULL AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
      AND a.datname = current_database() AND a.backend_type <> 'autovacuum worker'
    ORDER BY age(a.backend_xmin) DESC, a.xact_start LIMIT 1) t ON true
WHERE s.relid = 'holdfast.rate_limit_requests'::regclass
