-- A text that changes when anything did that a page of the dashboard shows: claims, ends, events, workers, incidents, operations.
-- Each part is one row or one step into an index.
SELECT concat_ws('/',
    (SELECT max(q.claimed_at) FROM holdfast.queues q),
    (SELECT count(*) FILTER (WHERE q.paused) FROM holdfast.queues q),
    (SELECT max(e.id) FROM holdfast.job_events e),
    (SELECT max(w.started_at) FROM holdfast.workers w WHERE w.gone_at IS NULL),
    (SELECT count(*) FROM holdfast.workers w WHERE w.gone_at IS NULL),
    (SELECT sum(w.running) FROM holdfast.workers w WHERE w.gone_at IS NULL),
    (SELECT max(s.last_at) FROM holdfast.job_stats s WHERE s.minute = 'infinity'),
    (SELECT j.id FROM holdfast.jobs j ORDER BY j.id DESC LIMIT 1),
    (SELECT (j.finished_at, j.id)::text FROM holdfast.jobs j WHERE j.status IN ('succeeded', 'dead', 'cancelled')
     ORDER BY j.finished_at DESC, j.id DESC LIMIT 1),
    (SELECT max(i.changed_at) FROM holdfast.incidents i),
    (SELECT max(a.id) FROM holdfast.audit_log a),
    (SELECT max(b.changed_at) FROM holdfast.bulk_operations b WHERE b.status = 'running'))
