-- find_stale_jobs() with its default threshold, for people and dashboards: SELECT * FROM holdfast.stale_jobs_view.
DROP VIEW IF EXISTS holdfast.stale_jobs_view;
CREATE VIEW holdfast.stale_jobs_view WITH (security_invoker = true) AS
SELECT s.id, s.queue, s.kind, s.reason, s.silent_for, s.last_sign_of_life, s.claimed_at, s.lease, s.worker_id, w.host, w.pid
FROM holdfast.find_stale_jobs() AS s
LEFT JOIN holdfast.workers w ON w.id = s.worker_id;
