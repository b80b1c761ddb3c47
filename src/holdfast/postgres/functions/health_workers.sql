-- The worker processes that were not declared gone, for health checks. lost: those that died or lapsed within the hour.
CREATE OR REPLACE FUNCTION holdfast.health_workers()
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
    RETURN jsonb_build_object(
        'workers', (
            SELECT jsonb_build_object(
                'live', count(*) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.quarantine),
                'idle', count(*) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.quarantine AND w.running = 0),
                'silent', count(*) FILTER (WHERE w.seen_at + w.lost_after < _now),
                'draining', count(*) FILTER (WHERE w.draining),
                'slots', coalesce(sum(w.slots) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.draining), 0),
                'longest_lag', coalesce(extract(epoch FROM max(w.loop_lag)), 0))
            FROM holdfast.workers w WHERE w.gone_at IS NULL)
        || jsonb_build_object('lost', (
            SELECT count(*) FROM holdfast.workers w
            WHERE w.gone_at > _now - interval '1 hour' AND w.gone_reason IN ('crashed', 'lapsed', 'fenced'))),
        'running', (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running'));
END
$function$;
