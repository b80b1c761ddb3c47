-- Write down what a monitor decided about incidents, and what is to be told of them, in one transaction.
-- changes: [{id, action, kind, key, title, details, arrivals, content, version, tell, level, wait}], `content` what is told.
-- action: open | reopen (the incident `id`, resolved not long ago) | worse | repeat | clean (a look found nothing of it) | seen (it
-- is there after all) | resolve. With tell = false nobody is told, and what arrived waits to be told of. `wait` holds a first
-- notification back for so long, so that what comes at once is told at once.
-- A change decided about another `version` than there is, is nothing: somebody else was quicker.
-- Told are the channels that any alerter has announced within the last day, and those of the caller: whoever happens to
-- sweep need not know them all. The log is told where there is nothing else. What waits to be told of the same incident and was
-- not tried yet is brought up to date, instead of telling twice.
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
    _incident record;
    _id       uuid;
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
        SELECT c.*, coalesce(c.tell, c.action NOT IN ('clean', 'seen')) AS tells
        FROM jsonb_to_recordset(record_incidents.changes) AS c (id uuid, action text, kind text, key text, title text,
            details jsonb, arrivals bigint, content jsonb, version bigint, tell boolean, level integer, wait interval)
        ORDER BY c.kind, c.key
    LOOP
        SELECT i.id, i.version, i.untold INTO _incident
        FROM holdfast.incidents i
        WHERE i.kind = _change.kind AND i.key = _change.key AND i.status = 'open'
        FOR UPDATE;
        CONTINUE WHEN (_incident.id IS NULL) <> (_change.action IN ('open', 'reopen'));
        CONTINUE WHEN _incident.version <> _change.version;
        CONTINUE WHEN _change.kind = 'dead_letters' AND _change.action = 'resolve' AND EXISTS (
            SELECT FROM holdfast.dead_letters d WHERE d.fingerprint = _change.key AND d.gone_at IS NULL);
        _id := coalesce(_incident.id, _change.id);

        _told := coalesce(_change.arrivals, 0);
        IF _change.kind = 'dead_letters' AND _change.action IN ('open', 'reopen', 'worse') THEN
            UPDATE holdfast.dead_letters AS d SET incident_id = _id
            WHERE d.incident_id IS NULL AND d.fingerprint = _change.key;
            GET DIAGNOSTICS _told = ROW_COUNT;
            CONTINUE WHEN _told = 0 AND coalesce(_incident.untold, 0) = 0;
        END IF;

        IF _change.action = 'open' THEN
            INSERT INTO holdfast.incidents AS i (id, kind, key, title, details, arrivals, opened_at, changed_at, level, untold,
                told_at)
            VALUES (_id, _change.kind, _change.key, _change.title, coalesce(_change.details, '{}'), _told, _now, _now,
                    coalesce(_change.level, 0), CASE WHEN _change.tells THEN 0 ELSE _told END,
                    CASE WHEN _change.tells THEN _now END)
            ON CONFLICT (kind, key) WHERE status = 'open' DO NOTHING;
            CONTINUE WHEN NOT FOUND;
        ELSE
            UPDATE holdfast.incidents AS i
            SET version = i.version + 1, changed_at = _now,
                arrivals = i.arrivals + _told, title = coalesce(_change.title, i.title),
                details = i.details || coalesce(_change.details, '{}'),
                level = CASE WHEN _change.action IN ('reopen', 'worse') THEN coalesce(_change.level, i.level) ELSE i.level END,
                status = CASE _change.action WHEN 'resolve' THEN 'resolved' ELSE 'open' END,
                resolved_at = CASE _change.action WHEN 'resolve' THEN _now END,
                clean = CASE _change.action WHEN 'clean' THEN i.clean + 1 WHEN 'resolve' THEN i.clean ELSE 0 END,
                clean_since = CASE WHEN _change.action IN ('clean', 'resolve') THEN coalesce(i.clean_since, _now) END,
                reopened = i.reopened + CASE _change.action WHEN 'reopen' THEN 1 ELSE 0 END,
                reopened_at = CASE _change.action WHEN 'reopen' THEN _now ELSE i.reopened_at END,
                acknowledged_at = CASE WHEN _change.action <> 'reopen' THEN i.acknowledged_at END,
                acknowledged_by = CASE WHEN _change.action <> 'reopen' THEN i.acknowledged_by END,
                untold = CASE WHEN _change.tells THEN 0 ELSE i.untold + _told END,
                told_at = CASE WHEN _change.tells THEN _now ELSE i.told_at END,
                repeats = CASE WHEN NOT _change.tells THEN i.repeats WHEN _change.action = 'repeat' THEN i.repeats + 1 ELSE 0 END
            WHERE i.id = _id AND i.kind = _change.kind AND i.key = _change.key
              AND (_change.action <> 'reopen' OR (i.status = 'resolved' AND i.version = _change.version));
            CONTINUE WHEN NOT FOUND;
        END IF;

        IF _change.tells THEN
            _reason := CASE WHEN _change.action IN ('open', 'reopen') THEN 'first' WHEN _change.action = 'resolve' THEN 'resolved'
                            ELSE _change.action END;
            WITH waiting AS (
                UPDATE holdfast.notifications AS n
                SET reason = _reason, content = _change.content
                WHERE n.incident_id = _id AND n.delivered_at IS NULL AND n.attempts = 0 AND n.reason IN ('worse', 'repeat')
                RETURNING n.channel
            )
            INSERT INTO holdfast.notifications (id, incident_id, channel, reason, content, created_at, due_at)
            SELECT gen_random_uuid(), _id, c.name, _reason, _change.content, _now,
                   _now + CASE _reason WHEN 'first' THEN coalesce(_change.wait, '0') ELSE '0' END
            FROM unnest(_channels) AS c (name)
            WHERE c.name NOT IN (SELECT w.channel FROM waiting w)
              -- That a channel refuses is told over the others.
              AND (_change.kind <> 'notification_failing' OR c.name <> _change.key);
        END IF;
        RETURN QUERY SELECT _id, _change.kind, _change.key, _change.action, _told;
    END LOOP;
END
$function$;
