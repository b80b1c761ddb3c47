-- Who is still to be told of what, and which incidents are open, for health checks. Notifications are counted to 1,000; the 20
-- oldest incidents.
CREATE OR REPLACE FUNCTION holdfast.health_told()
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
        'notifications', (
            SELECT jsonb_build_object(
                'waiting', count(*), 'failing', count(*) FILTER (WHERE n.error IS NOT NULL),
                'oldest', coalesce(extract(epoch FROM _now - min(n.created_at)), 0),
                'last_error', (SELECT e.error FROM holdfast.notifications e
                               WHERE e.delivered_at IS NULL AND e.error IS NOT NULL ORDER BY e.due_at DESC LIMIT 1))
            FROM (SELECT w.created_at, w.error FROM holdfast.notifications w WHERE w.delivered_at IS NULL LIMIT 1000) n),
        'incidents', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'kind', i.kind, 'title', i.title, 'open_for', extract(epoch FROM _now - i.opened_at)) ORDER BY i.opened_at), '[]')
            FROM (SELECT i.kind, i.title, i.opened_at FROM holdfast.incidents i WHERE i.status = 'open'
                  ORDER BY i.opened_at LIMIT 20) i));
END
$function$;
