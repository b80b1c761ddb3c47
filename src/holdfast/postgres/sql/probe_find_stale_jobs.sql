-- Does find_stale_jobs() work?
-- RPC probe_find_stale_jobs() RETURNS SETOF bigint
SELECT count(*) FROM holdfast.find_stale_jobs()
