-- Does find_stale_jobs() work?
SELECT count(*) FROM holdfast.find_stale_jobs()
