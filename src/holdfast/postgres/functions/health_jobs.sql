-- What became of jobs, for health checks and metrics, from the minutes that workers count (job_stats); no job is looked at. The
-- last hour as one, from its 10,000 latest rows at most; and totals since the first one, of the 200 pairs of queue and kind that
-- something happened to last. Histograms are counts by the bounds of core/histogram.py; a pair's are for metrics.
CREATE OR REPLACE FUNCTION holdfast.health_jobs()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN jsonb_build_object('ended', (
        SELECT jsonb_build_object(
            'since', extract(epoch FROM _now - min(s.minute)),
            'succeeded', coalesce(sum(s.succeeded), 0),
            'failed', coalesce(sum(s.failed), 0),
            'dead', coalesce(sum(s.dead), 0),
            'cancelled', coalesce(sum(s.cancelled), 0),
            'waits', ARRAY[sum(s.waits[1]), sum(s.waits[2]), sum(s.waits[3]), sum(s.waits[4]), sum(s.waits[5]),
                sum(s.waits[6]), sum(s.waits[7]), sum(s.waits[8]), sum(s.waits[9]), sum(s.waits[10]),
                sum(s.waits[11]), sum(s.waits[12]), sum(s.waits[13]), sum(s.waits[14]), sum(s.waits[15]),
                sum(s.waits[16]), sum(s.waits[17]), sum(s.waits[18]), sum(s.waits[19])],
            'runs', ARRAY[sum(s.runs[1]), sum(s.runs[2]), sum(s.runs[3]), sum(s.runs[4]), sum(s.runs[5]),
                sum(s.runs[6]), sum(s.runs[7]), sum(s.runs[8]), sum(s.runs[9]), sum(s.runs[10]), sum(s.runs[11]),
                sum(s.runs[12]), sum(s.runs[13]), sum(s.runs[14]), sum(s.runs[15]), sum(s.runs[16]),
                sum(s.runs[17]), sum(s.runs[18]), sum(s.runs[19])])
        FROM (SELECT m.* FROM holdfast.job_stats m
              WHERE m.minute > _now - interval '1 hour' AND m.minute < 'infinity' ORDER BY m.minute DESC LIMIT 10000) s),
        'totals', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'queue', t.queue, 'kind', t.kind, 'succeeded', t.succeeded, 'failed', t.failed, 'dead', t.dead,
            'cancelled', t.cancelled, 'waited', t.waited, 'ran', t.ran, 'waits', t.waits, 'runs', t.runs)), '[]')
        FROM (SELECT m.* FROM holdfast.job_stats m WHERE m.minute = 'infinity' ORDER BY m.last_at DESC LIMIT 200) t));
END
$function$;
