-- Redrives, the newest first, with how far each is. `wanted` begins or ends an id; null is any.
CREATE OR REPLACE FUNCTION holdfast.list_redrives(wanted text DEFAULT NULL, max_redrives integer DEFAULT 50)
RETURNS TABLE (
    id uuid, status text, reason text, requested_by text, note text, filter jsonb, target text, canary integer,
    rate double precision, total integer, waiting integer, sent integer, succeeded integer, returned integer, same integer,
    skipped integer, failed integer, remaining integer, created_at timestamptz, finished_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.id, r.status, r.reason, r.requested_by, r.note, r.filter, r.target, r.canary, r.rate, r.total, c.waiting + c.sending,
           c.sent, c.succeeded, c.returned, c.same, c.skipped, c.failed, c.remaining, r.created_at, r.finished_at
    FROM (SELECT * FROM holdfast.redrives o WHERE wanted IS NULL OR starts_with(o.id::text, wanted) OR right(o.id::text, length(wanted)) = wanted
          ORDER BY o.created_at DESC, o.id LIMIT max_redrives) r
    CROSS JOIN LATERAL holdfast.redrive_counts(r.id) c
    ORDER BY r.created_at DESC, r.id;
$function$;
