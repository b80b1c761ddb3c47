-- When each monitor swept last, for health checks, and the ledger's clock that this is measured by.
CREATE OR REPLACE FUNCTION holdfast.health_monitors()
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
        'clock', _now,
        'monitors', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', m.name,
                'every', extract(epoch FROM m.every),
                'swept_ago', extract(epoch FROM _now - m.swept_at),
                'is_held', m.hold IS NOT NULL AND NOT m.hold ? 'ended',
                'last_result', coalesce(m.last_result, '{}')) ORDER BY m.name), '[]')
            FROM holdfast.monitors m));
END
$function$;
