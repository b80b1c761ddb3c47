-- Does the view of stuck jobs work?
SELECT count(*) FROM holdfast.stale_jobs_view
