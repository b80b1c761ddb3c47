-- Does the view of stuck jobs work?
-- RPC probe_stale_jobs_view() RETURNS SETOF bigint
SELECT count(*) FROM holdfast.stale_jobs_view
