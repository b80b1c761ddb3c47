-- Write down what a monitor decided about incidents, and what is to be told of them, in one transaction.
-- changes: [{id, action: open | worse | resolve, kind, key, title, details, arrivals, content}], `content` what is told.
-- Told are the channels that any alerter has announced within the last day, and those of the caller: whoever happens to
-- sweep need not know them all. The log is told where there is nothing else.
-- For dead letters the letters themselves are marked as told of; where somebody else has done so meanwhile nothing is
-- written and nobody is told twice; and as long as one of them is there, their incident is not over: somebody else may have
-- found it since this caller looked. Returns what was written: {id: incident, arrivals}.
CREATE OR REPLACE FUNCTION holdfast.record_incidents(changes jsonb, channels text[])
RETURNS TABLE (id uuid, kind text, key text, action text, arrivals bigint)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _change   record;
    _incident uuid;
    _told     bigint;
    _reason   text;
    _channels text[];
BEGIN
    SELECT array_agg(DISTINCT c.name) INTO _channels
    FROM (SELECT unnest(record_incidents.channels) AS name
          UNION ALL
          SELECT a.key
          FROM holdfast.monitors m
          CROSS JOIN LATERAL jsonb_each_text(coalesce(m.last_result -> 'channels', '{}')) AS a
          WHERE m.name = 'deliver_notifications' AND a.value::timestamptz > _now - interval '1 day') c
    WHERE c.name IS NOT NULL;
    IF cardinality(_channels) > 1 THEN
        _channels := array_remove(_channels, 'log');
    END IF;
    FOR _change IN
        SELECT * FROM jsonb_to_recordset(record_incidents.changes) AS c (id uuid, action text, kind text, key text, title text,
            details jsonb, arrivals bigint, content jsonb)
        ORDER BY c.kind, c.key
    LOOP
        SELECT i.id INTO _incident
        FROM holdfast.incidents i
        WHERE i.kind = _change.kind AND i.key = _change.key AND i.status = 'open'
        FOR UPDATE;
        CONTINUE WHEN (_incident IS NULL) <> (_change.action = 'open');
        CONTINUE WHEN _change.kind = 'dead_letters' AND _change.action = 'resolve' AND EXISTS (
            SELECT FROM holdfast.dead_letters d WHERE d.fingerprint = _change.key AND d.gone_at IS NULL);
        _incident := coalesce(_incident, _change.id);

        _told := coalesce(_change.arrivals, 0);
        IF _change.kind = 'dead_letters' AND _change.action IN ('open', 'worse') THEN
            UPDATE holdfast.dead_letters AS d SET incident_id = _incident
            WHERE d.incident_id IS NULL AND d.fingerprint = _change.key;
            GET DIAGNOSTICS _told = ROW_COUNT;
            CONTINUE WHEN _told = 0;
        END IF;

        IF _change.action = 'open' THEN
            INSERT INTO holdfast.incidents AS i (id, kind, key, title, details, arrivals, opened_at, changed_at)
            VALUES (_incident, _change.kind, _change.key, _change.title, coalesce(_change.details, '{}'), _told, _now, _now)
            ON CONFLICT (kind, key) WHERE status = 'open' DO NOTHING;
            CONTINUE WHEN NOT FOUND;
        ELSE
            UPDATE holdfast.incidents AS i
            SET arrivals = i.arrivals + _told, changed_at = _now, title = coalesce(_change.title, i.title),
                details = i.details || coalesce(_change.details, '{}'),
                status = CASE _change.action WHEN 'resolve' THEN 'resolved' ELSE i.status END,
                resolved_at = CASE _change.action WHEN 'resolve' THEN _now END
            WHERE i.id = _incident;
        END IF;

        _reason := CASE _change.action WHEN 'open' THEN 'first' WHEN 'worse' THEN 'worse' ELSE 'resolved' END;
        INSERT INTO holdfast.notifications (id, incident_id, channel, reason, content, created_at, due_at)
        SELECT gen_random_uuid(), _incident, c.name, _reason, _change.content, _now, _now
        FROM unnest(_channels) AS c (name);
        RETURN QUERY SELECT _incident, _change.kind, _change.key, _change.action, _told;
    END LOOP;
END
$function$;
