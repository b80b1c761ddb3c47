-- Nothing is told of an incident for a while, not even its end; what is still there then is told again. A silence of no length
-- ends one. Verdict: silenced | open | resolved | not_found.
CREATE OR REPLACE FUNCTION holdfast.incident_silence(id uuid, silence interval, by text, note text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _status text;
BEGIN
    UPDATE holdfast.incidents AS i
    SET silenced_until = CASE WHEN silence > interval '0' THEN holdfast.clock() + silence END,
        silenced_by = CASE WHEN silence > interval '0' THEN left(incident_silence.by, 200) END,
        note = coalesce(left(incident_silence.note, 2000), i.note), version = i.version + 1
    WHERE i.id = incident_silence.id AND i.status = 'open';
    IF FOUND THEN
        RETURN CASE WHEN silence > interval '0' THEN 'silenced' ELSE 'open' END;
    END IF;
    SELECT i.status INTO _status FROM holdfast.incidents i WHERE i.id = incident_silence.id;
    RETURN coalesce(_status, 'not_found');
END
$function$;
