-- What was told of an incident, to whom, and what became of it; the oldest first, the last 200.
CREATE OR REPLACE FUNCTION holdfast.incident_history(incident uuid)
RETURNS TABLE (
    id uuid, channel text, reason text, content jsonb, created_at timestamptz, due_at timestamptz, attempts integer,
    delivered_at timestamptz, error text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT l.*
    FROM (SELECT n.id, n.channel, n.reason, n.content, n.created_at, n.due_at, n.attempts, n.delivered_at, n.error
          FROM holdfast.notifications n
          WHERE n.incident_id = incident_history.incident
          ORDER BY n.created_at DESC, n.id
          LIMIT 200) l
    ORDER BY l.created_at, l.id;
$function$;
