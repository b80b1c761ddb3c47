-- Somebody has taken an incident on: it is not repeated, and told again only when it becomes more urgent, and at its end. One that
-- comes back after its end is nobody's again. With ack = false it is nobody's again now.
-- Verdict: acknowledged | open | resolved | not_found.
CREATE OR REPLACE FUNCTION holdfast.incident_ack(id uuid, by text, note text DEFAULT NULL, ack boolean DEFAULT true) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _status text;
BEGIN
    UPDATE holdfast.incidents AS i
    SET acknowledged_at = CASE WHEN ack THEN holdfast.clock() END,
        acknowledged_by = CASE WHEN ack THEN left(incident_ack.by, 200) END,
        note = coalesce(left(incident_ack.note, 2000), i.note), version = i.version + 1
    WHERE i.id = incident_ack.id AND i.status = 'open';
    IF FOUND THEN
        RETURN CASE WHEN ack THEN 'acknowledged' ELSE 'open' END;
    END IF;
    SELECT i.status INTO _status FROM holdfast.incidents i WHERE i.id = incident_ack.id;
    RETURN coalesce(_status, 'not_found');
END
$function$;
