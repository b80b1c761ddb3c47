-- Incidents, the open ones first, each with its state: open | reopened | acknowledged | silenced | resolved. Of `states` null
-- means all but resolved. `wanted` begins or ends an id, or is the kind; null is any. `told` counts notifications, `waiting` those that
-- were not delivered yet.
CREATE OR REPLACE FUNCTION holdfast.list_incidents(states text[] DEFAULT NULL, wanted text DEFAULT NULL,
    max_incidents integer DEFAULT 1000)
RETURNS TABLE (
    id uuid, state text, kind text, key text, title text, level integer, arrivals bigint, untold bigint, opened_at timestamptz,
    changed_at timestamptz, resolved_at timestamptz, open_for double precision, reopened integer, told_at timestamptz, told bigint,
    waiting bigint, acknowledged_at timestamptz, acknowledged_by text, silenced_until timestamptz, silenced_by text, note text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH stated AS (
        SELECT i.*, c.now, CASE WHEN i.status = 'resolved' THEN 'resolved' WHEN i.silenced_until > c.now THEN 'silenced'
                         WHEN i.acknowledged_at IS NOT NULL THEN 'acknowledged' WHEN i.reopened_at IS NOT NULL THEN 'reopened'
                         ELSE 'open' END AS state
        FROM (SELECT holdfast.clock() AS now) c, holdfast.incidents i
    )
    SELECT s.id, s.state, s.kind, s.key, s.title, s.level, s.arrivals, s.untold, s.opened_at, s.changed_at, s.resolved_at,
           extract(epoch FROM coalesce(s.resolved_at, s.now) - coalesce(s.reopened_at, s.opened_at))::double precision,
           s.reopened, s.told_at, n.told, n.waiting, s.acknowledged_at, s.acknowledged_by,
           CASE WHEN s.state = 'silenced' THEN s.silenced_until END, s.silenced_by, s.note
    FROM stated s
    CROSS JOIN LATERAL (
        SELECT count(*) AS told, count(*) FILTER (WHERE t.delivered_at IS NULL) AS waiting
        FROM holdfast.notifications t WHERE t.incident_id = s.id) n
    WHERE CASE WHEN states IS NULL THEN s.state <> 'resolved' ELSE s.state = ANY (states) END
      AND (wanted IS NULL OR s.kind = wanted OR starts_with(s.id::text, wanted) OR right(s.id::text, length(wanted)) = wanted)
    ORDER BY s.status, s.opened_at DESC, s.id
    LIMIT max_incidents;
$function$;
