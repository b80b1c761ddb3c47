-- Take the jobs that went dead since the last call among the dead letters, and see which of the earlier ones are dead no
-- longer. Deaths are read off the events, which are written in the statement that ends the job: a job that died and was
-- retried in between is a dead letter too. An event's id is drawn before its row is committed, so the last 15 s wait for the next
-- call: no call of the protocol takes longer than 10. One caller collects at a time. Where more letters are there than `max_events`,
-- a call sees after so many of them and the next call after those that follow (`checked`): else some would never be seen after.
-- Returns how many were new.
CREATE OR REPLACE FUNCTION holdfast.collect_dead_jobs(max_events integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _from bigint;
    _upto bigint;
    _new  bigint;
    _fingerprint text;
    _id   uuid;
BEGIN
    SELECT (m.last_result ->> 'event_id')::bigint, coalesce(m.last_result #>> '{checked,0}', ''),
           coalesce(m.last_result #>> '{checked,1}', '00000000-0000-0000-0000-000000000000')::uuid
    INTO _from, _fingerprint, _id
    FROM holdfast.monitors m WHERE m.name = 'collect_dead_jobs'
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- Whoever begins with an old ledger is not told of all that ever died in it: the last hour is news, the rest history.
    IF _from IS NULL THEN
        SELECT coalesce(max(e.id), 0) INTO _from
        FROM (SELECT e.id, e.at FROM holdfast.job_events e ORDER BY e.id DESC LIMIT max_events) e
        WHERE e.at < _now - interval '1 hour';
    END IF;

    SELECT coalesce(min(e.id) FILTER (WHERE e.at > _now - interval '15 seconds') - 1, max(e.id), _from)
    INTO _upto
    FROM (SELECT e.id, e.at FROM holdfast.job_events e WHERE e.id > _from ORDER BY e.id LIMIT max_events) e;

    WITH written AS (
        INSERT INTO holdfast.dead_letters (id, source, queue, key, job_id, kind, cause, fingerprint, received, sent_at,
            first_seen_at, last_seen_at, earlier_id, returns)
        SELECT gen_random_uuid(), 'job', j.queue, e.job_id || ':' || e.lease, e.job_id::text, j.kind,
               coalesce(e.details #>> '{error,type}', e.reason, ''),
               coalesce(e.details ->> 'fingerprint', 'rescue:' || e.reason || ':' || j.kind),
               j.attempts, e.at, _now, _now, b.id, coalesce(b.returns + 1, 0)
        FROM holdfast.job_events e
        JOIN holdfast.jobs j ON j.id = e.job_id
        -- ':' is followed by ';': all of one job's keys, of which the last is that of its last death.
        LEFT JOIN LATERAL (
            SELECT l.id, l.returns FROM holdfast.dead_letters l
            WHERE l.source = 'job' AND l.queue = j.queue AND l.key > e.job_id || ':' AND l.key < e.job_id || ';'
              AND split_part(l.key, ':', 2)::bigint < e.lease
            ORDER BY split_part(l.key, ':', 2)::bigint DESC LIMIT 1) b ON true
        WHERE e.id > _from AND e.id <= _upto
          AND e.event IN ('failure', 'crash', 'rescue') AND e.details ->> 'status' = 'dead'
        ON CONFLICT (source, queue, key) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) INTO _new FROM written;

    WITH checked AS MATERIALIZED (
        SELECT p.fingerprint, p.id, p.job_id, split_part(p.key, ':', 2)::bigint AS lease
        FROM holdfast.dead_letters p
        WHERE p.gone_at IS NULL AND p.source = 'job' AND (p.fingerprint, p.id) > (_fingerprint, _id)
        ORDER BY p.fingerprint, p.id
        LIMIT max_events
    ), gone AS (
        UPDATE holdfast.dead_letters AS d
        SET gone_at = _now
        FROM checked p
        LEFT JOIN holdfast.jobs j ON j.id = p.job_id::uuid AND j.status = 'dead' AND j.lease <= p.lease + 1
        WHERE d.id = p.id AND j.id IS NULL
    )
    SELECT c.fingerprint, c.id INTO _fingerprint, _id
    FROM checked c ORDER BY c.fingerprint, c.id OFFSET max_events - 1 LIMIT 1;  -- none: all were, so it begins anew

    UPDATE holdfast.monitors AS m
    SET swept_at = _now, last_result = jsonb_build_object('event_id', greatest(_from, _upto), 'new', _new,
                                                            'checked', jsonb_build_array(_fingerprint, _id))
    WHERE m.name = 'collect_dead_jobs';
    RETURN _new;
END
$function$;
