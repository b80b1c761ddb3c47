-- Holdfast migration 007_dead_letters
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 007_dead_letters.sql
-- It is one statement and so one transaction, it may be run any number of times, and it records itself in
-- holdfast.schema_migrations: once it is on record, running it again does nothing.
DO $holdfast$
BEGIN
    SET LOCAL lock_timeout = '3s';
    SET LOCAL client_min_messages = warning;
    PERFORM pg_advisory_xact_lock(hashtextextended('holdfast.migrations', 0));
    -- The catalog's tables are read, not asked through to_regclass: its cache may be older than the lock.
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'holdfast' AND c.relname = 'schema_migrations') THEN
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 7) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Which queues need bells now, and how many: as many as jobs are due, as many workers as have a free slot could take them,
-- whichever is less. A queue is rung again when it was claimed from since its last bell, or else after `again_after`: a bell
-- may have been lost. Due jobs are looked for by walking the claim index, 200 probes a queue at most. Marks what it returns as
-- rung; what another ringer is just looking at is left to it.
CREATE OR REPLACE FUNCTION holdfast.queues_to_ring(again_after interval DEFAULT '15 seconds', max_bells integer DEFAULT 10)
RETURNS TABLE (queue text, bells integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _queue record;
    _idle  integer;
    _due   integer;
BEGIN
    FOR _queue IN
        SELECT q.name FROM holdfast.queues q
        WHERE NOT q.paused
          AND (q.rung_at IS NULL OR q.rung_at <= q.claimed_at OR q.rung_at < _now - again_after)
        ORDER BY q.name
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
    LOOP
        SELECT count(*) INTO _idle
        FROM holdfast.workers w
        WHERE w.gone_at IS NULL AND NOT w.draining AND NOT w.quarantine AND w.running < w.slots
          AND w.seen_at + w.lost_after > _now AND _queue.name = ANY (w.queues);
        CONTINUE WHEN _idle = 0;

        WITH RECURSIVE step AS (
            (SELECT j.kind, j.lane, j.priority, j.run_at, 1 AS n
             FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue = _queue.name
             ORDER BY j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1)
            UNION ALL
            SELECT f.kind, f.lane, f.priority, f.run_at, s.n + 1
            FROM step s
            CROSS JOIN LATERAL (
                SELECT j.kind, j.lane, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = _queue.name
                  AND (j.kind, j.lane, j.priority) > (s.kind, s.lane, s.priority)
                ORDER BY j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1) f
            WHERE s.n < 200
        )
        SELECT coalesce(sum((SELECT count(*) FROM (
                   SELECT FROM holdfast.jobs j
                   WHERE j.status = 'queued' AND j.queue = _queue.name AND j.kind = s.kind AND j.lane = s.lane
                     AND j.priority = s.priority AND j.run_at <= _now
                   LIMIT max_bells) d)), 0)
        INTO _due
        FROM step s WHERE s.run_at <= _now;
        CONTINUE WHEN _due = 0;

        UPDATE holdfast.queues AS q SET rung_at = _now WHERE q.name = _queue.name;
        queue := _queue.name;
        bells := least(_due, _idle, max_bells);
        RETURN NEXT;
    END LOOP;
END
$function$;

-- What ended where nobody reads by itself: jobs that went dead, and messages found in dead-letter queues. `key` is the
-- message's id, or the job's with the lease of the run that ended it. `incident_id` is null until somebody was told of the
-- letter; `gone_at` is when it was seen to be no longer there (retried, redriven, drained, expired). From `captured_at` on the
-- message is kept here alone, whole: `body` as it came, and in `original` its attributes with their types, and what SQS said of it.
-- `outcome` is what somebody decided about it. A letter that came back after that is a new row: `earlier_id` is the one before,
-- and `returns` how many lives came before that were ended by somebody's decision. `missed`: a complete look did not find it; what a
-- second one does not find either is gone, since SQS's counts are approximate.
CREATE TABLE IF NOT EXISTS holdfast.dead_letters (
    id             uuid        NOT NULL PRIMARY KEY,
    source         text        COLLATE "C" NOT NULL,
    queue          text        COLLATE "C" NOT NULL,
    key            text        COLLATE "C" NOT NULL,
    job_id         text        ,
    kind           text        NOT NULL DEFAULT '',
    cause          text        NOT NULL DEFAULT '',
    fingerprint    text        COLLATE "C" NOT NULL,
    body           text        ,
    attributes     jsonb       NOT NULL DEFAULT '{}',
    received       integer     NOT NULL DEFAULT 0,
    sent_at        timestamptz ,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    gone_at        timestamptz ,
    incident_id    uuid        ,
    captured_at    timestamptz ,
    original       jsonb       ,
    missed         boolean     NOT NULL DEFAULT false,
    earlier_id     uuid        ,
    returns        integer     NOT NULL DEFAULT 0,
    redrive_id     uuid        ,
    outcome        text        COLLATE "C",
    outcome_at     timestamptz ,
    outcome_by     text        ,
    outcome_reason text        ,
    CONSTRAINT dead_letters_source CHECK (source IN ('job', 'sqs')),
    CONSTRAINT dead_letters_outcome CHECK (outcome IN ('redriven', 'discarded'))
);

CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_key ON holdfast.dead_letters (source, queue, key);
CREATE INDEX IF NOT EXISTS dead_letters_present ON holdfast.dead_letters (fingerprint, id) WHERE gone_at IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_untold ON holdfast.dead_letters (fingerprint, id) WHERE incident_id IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_earlier ON holdfast.dead_letters (earlier_id) WHERE earlier_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_job ON holdfast.dead_letters (queue, job_id, first_seen_at) WHERE source = 'sqs';
CREATE INDEX IF NOT EXISTS dead_letters_waiting ON holdfast.dead_letters (queue, sent_at) WHERE source = 'sqs' AND gone_at IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_gone ON holdfast.dead_letters (gone_at) WHERE gone_at IS NOT NULL;

-- What somebody must know of: one open row for each cause (`kind` and `key`), with how much of it arrived so far, and how much of
-- that nobody was told of yet. `version` grows with each change: whoever decided about an older one has decided nothing.
-- `clean`: looks in a row that found nothing of it. One that came back soon is opened again (`reopened`).
CREATE TABLE IF NOT EXISTS holdfast.incidents (
    id              uuid        NOT NULL PRIMARY KEY,
    kind            text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    status          text        COLLATE "C" NOT NULL DEFAULT 'open',
    title           text        NOT NULL,
    details         jsonb       NOT NULL DEFAULT '{}',
    arrivals        bigint      NOT NULL DEFAULT 0,
    opened_at       timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    resolved_at     timestamptz ,
    version         bigint      NOT NULL DEFAULT 1,
    level           integer     NOT NULL DEFAULT 0,
    untold          bigint      NOT NULL DEFAULT 0,
    told_at         timestamptz ,
    repeats         integer     NOT NULL DEFAULT 0,
    clean           integer     NOT NULL DEFAULT 0,
    clean_since     timestamptz ,
    reopened        integer     NOT NULL DEFAULT 0,
    reopened_at     timestamptz ,
    acknowledged_at timestamptz ,
    acknowledged_by text        ,
    silenced_until  timestamptz ,
    silenced_by     text        ,
    note            text        ,
    CONSTRAINT incidents_status CHECK (status IN ('open', 'resolved'))
);

CREATE UNIQUE INDEX IF NOT EXISTS incidents_open ON holdfast.incidents (kind, key) WHERE status = 'open';
CREATE INDEX IF NOT EXISTS incidents_key ON holdfast.incidents (kind, key);
CREATE INDEX IF NOT EXISTS incidents_changed ON holdfast.incidents (changed_at);

-- What is to be told of an incident, to one channel: written with the incident in one transaction, delivered at least once.
-- `due_at` is when it is tried next; whoever tries moves it on first, so that two never try at once.
CREATE TABLE IF NOT EXISTS holdfast.notifications (
    id           uuid        NOT NULL PRIMARY KEY,
    incident_id  uuid,
    channel      text        COLLATE "C" NOT NULL,
    reason       text        COLLATE "C" NOT NULL,
    content      jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    error        text,
    CONSTRAINT notifications_reason CHECK (reason IN ('first', 'worse', 'repeat', 'resolved', 'test'))
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS notifications_due ON holdfast.notifications (due_at) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS notifications_waiting ON holdfast.notifications (incident_id, channel) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS notifications_delivered ON holdfast.notifications (delivered_at) WHERE delivered_at IS NOT NULL;

INSERT INTO holdfast.monitors (name)
VALUES ('collect_dead_jobs'), ('watch_dead_letters'), ('watch_health'), ('deliver_notifications')
ON CONFLICT (name) DO NOTHING;

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

-- Keep what a look at a dead-letter queue brought. A message that was seen before is seen again; what was there before and is
-- not found by two complete looks in a row is gone (one may be wrong: SQS's counts are approximate), unless it was captured: that
-- is kept here alone. `earlier`: the letter that was sent again as this message; it came back. Without it the same job is the same
-- letter: one of this queue with its job_id and kind that is gone, or that this complete look no longer found, is its earlier life.
-- letters: [{id, key, job_id, kind, cause, fingerprint, body, attributes, received, sent_at, earlier}]. Returns how many were new.
CREATE OR REPLACE FUNCTION holdfast.note_dead_letters(queue text, letters jsonb, complete boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _new bigint;
    _keys text[] := ARRAY(SELECT l.key FROM jsonb_to_recordset(letters) AS l (key text));
BEGIN
    WITH written AS (
        INSERT INTO holdfast.dead_letters AS d (id, source, queue, key, job_id, kind, cause, fingerprint, body, attributes,
            received, sent_at, first_seen_at, last_seen_at, earlier_id, returns)
        SELECT l.id, 'sqs', note_dead_letters.queue, l.key, l.job_id, coalesce(l.kind, ''), coalesce(l.cause, ''),
               l.fingerprint, l.body, coalesce(l.attributes, '{}'), coalesce(l.received, 0), l.sent_at, _now, _now,
               coalesce(e.id, b.id), coalesce(e.returns + 1, b.returns + 1, 0)
        FROM jsonb_to_recordset(letters) AS l (id uuid, key text, job_id text, kind text, cause text, fingerprint text,
            body text, attributes jsonb, received integer, sent_at timestamptz, earlier uuid)
        LEFT JOIN holdfast.dead_letters e ON e.id = l.earlier
        LEFT JOIN LATERAL (
            SELECT p.id, p.returns FROM holdfast.dead_letters p
            WHERE e.id IS NULL AND p.source = 'sqs' AND p.queue = note_dead_letters.queue AND p.job_id = l.job_id
              AND p.kind = l.kind AND p.key <> ALL (_keys)
              AND (p.gone_at IS NOT NULL OR complete AND p.captured_at IS NULL)
            ORDER BY p.first_seen_at DESC LIMIT 1) b ON true
        ORDER BY l.key
        ON CONFLICT (source, queue, key) DO UPDATE
        SET last_seen_at = _now, received = excluded.received, missed = false,
            -- What came back after it was gone is news; what was discarded is nobody's, wherever it still lies.
            gone_at = CASE WHEN d.outcome = 'discarded' THEN d.gone_at END,
            incident_id = CASE WHEN d.gone_at IS NULL OR d.outcome = 'discarded' THEN d.incident_id END,
            returns = d.returns + CASE WHEN d.gone_at IS NOT NULL AND d.outcome = 'redriven' THEN 1 ELSE 0 END,
            outcome = CASE WHEN d.outcome = 'discarded' THEN d.outcome END
        RETURNING d.first_seen_at = _now AS is_new
    )
    SELECT count(*) FILTER (WHERE w.is_new) INTO _new FROM written w;
    IF complete THEN
        UPDATE holdfast.dead_letters AS d
        SET gone_at = CASE WHEN d.missed THEN _now END, missed = true
        WHERE d.source = 'sqs' AND d.queue = note_dead_letters.queue AND d.gone_at IS NULL AND d.last_seen_at < _now
          AND d.captured_at IS NULL;
    END IF;
    RETURN _new;
END
$function$;

-- Keep messages of a dead-letter queue whole, so that they can be deleted from it. The caller deletes only when this is
-- committed: whoever dies in between leaves messages that come again, and are the same rows then.
-- letters: [{id, key, job_id, kind, cause, fingerprint, body, attributes, received, sent_at, original, earlier}].
-- `earlier`: the letter that was sent again as this message; without it, one of this queue with its job_id and kind that is gone.
-- Returns how many were not known yet.
CREATE OR REPLACE FUNCTION holdfast.capture_dead_letters(queue text, letters jsonb) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH written AS (
        INSERT INTO holdfast.dead_letters AS d (id, source, queue, key, job_id, kind, cause, fingerprint, body, attributes,
            received, sent_at, first_seen_at, last_seen_at, captured_at, original, earlier_id, returns)
        SELECT l.id, 'sqs', capture_dead_letters.queue, l.key, l.job_id, coalesce(l.kind, ''), coalesce(l.cause, ''),
               l.fingerprint, l.body, coalesce(l.attributes, '{}'), coalesce(l.received, 0), l.sent_at, c.now, c.now, c.now,
               l.original, coalesce(e.id, b.id), coalesce(e.returns + 1, b.returns + 1, 0)
        FROM (SELECT holdfast.clock() AS now) c,
             jsonb_to_recordset(letters) AS l (id uuid, key text, job_id text, kind text, cause text, fingerprint text,
                 body text, attributes jsonb, received integer, sent_at timestamptz, original jsonb, earlier uuid)
             LEFT JOIN holdfast.dead_letters e ON e.id = l.earlier
             LEFT JOIN LATERAL (
                 SELECT p.id, p.returns FROM holdfast.dead_letters p
                 WHERE e.id IS NULL AND p.source = 'sqs' AND p.queue = capture_dead_letters.queue AND p.job_id = l.job_id
                   AND p.kind = l.kind AND p.key <> l.key AND p.gone_at IS NOT NULL
                 ORDER BY p.first_seen_at DESC LIMIT 1) b ON true
        ORDER BY l.key
        ON CONFLICT (source, queue, key) DO UPDATE
        SET last_seen_at = excluded.last_seen_at, received = excluded.received, missed = false, body = excluded.body,
            original = excluded.original, captured_at = coalesce(d.captured_at, excluded.captured_at),
            -- What came back after it was gone is news; what was discarded is nobody's.
            gone_at = CASE WHEN d.outcome = 'discarded' THEN d.gone_at END,
            incident_id = CASE WHEN d.gone_at IS NULL OR d.outcome = 'discarded' THEN d.incident_id END,
            returns = d.returns + CASE WHEN d.gone_at IS NOT NULL AND d.outcome = 'redriven' THEN 1 ELSE 0 END,
            outcome = CASE WHEN d.outcome = 'discarded' THEN d.outcome END
        RETURNING d.id
    )
    SELECT count(*)
    FROM written w
    JOIN jsonb_to_recordset(letters) AS l (id uuid) ON l.id = w.id;
$function$;

-- Dead letters by cause, as far as somebody must be told: those with letters that nobody was told of yet, and those whose
-- incident is open. At most 500 groups of the first, the rest of which comes the next time, and 1,000 of the second, in the
-- order in which open incidents are listed: none that is listed may lack its group, which would look as if it were over.
-- Counts go to 10,000 in each.
CREATE OR REPLACE FUNCTION holdfast.dead_letter_groups(max_groups integer DEFAULT 500)
RETURNS TABLE (
    fingerprint text, queue text, source text, kind text, cause text, untold bigint, present bigint, oldest_at timestamptz,
    sample_job_id text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH wanted AS (
        (SELECT DISTINCT u.fingerprint FROM holdfast.dead_letters u WHERE u.incident_id IS NULL
         ORDER BY u.fingerprint LIMIT max_groups)
        UNION
        (SELECT i.key FROM holdfast.incidents i WHERE i.status = 'open' AND i.kind = 'dead_letters'
         ORDER BY i.opened_at, i.key LIMIT 1000)
    )
    SELECT w.fingerprint, s.queue, s.source, s.kind, s.cause,
           (SELECT count(*) FROM (SELECT FROM holdfast.dead_letters u
                                  WHERE u.incident_id IS NULL AND u.fingerprint = w.fingerprint LIMIT 10000) c),
           (SELECT count(*) FROM (SELECT FROM holdfast.dead_letters p
                                  WHERE p.gone_at IS NULL AND p.fingerprint = w.fingerprint LIMIT 10000) c),
           (SELECT min(o.sent_at) FROM (SELECT p.sent_at FROM holdfast.dead_letters p
                                        WHERE p.gone_at IS NULL AND p.fingerprint = w.fingerprint LIMIT 1000) o),
           s.job_id
    FROM wanted w
    LEFT JOIN LATERAL (
        SELECT d.queue, d.source, d.kind, d.cause, d.job_id
        FROM holdfast.dead_letters d
        WHERE d.fingerprint = w.fingerprint AND (d.gone_at IS NULL OR d.incident_id IS NULL)
        LIMIT 1) s ON true;
$function$;

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

-- Take notifications that are due, to deliver them; for `lease` nobody else takes them. Whoever dies before settling them
-- leaves them to be tried again: a notification is delivered at least once. What is told of one incident goes out in the order
-- in which it was written: an end that comes before its beginning would leave people with the beginning. A channel that asked
-- for a pause has it, whoever was asked (`pause_channel`).
CREATE OR REPLACE FUNCTION holdfast.claim_notifications(channels text[], max_notifications integer, lease interval)
RETURNS TABLE (id uuid, incident_id uuid, channel text, reason text, content jsonb, attempts integer, created_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE holdfast.notifications AS n
    SET due_at = (SELECT holdfast.clock()) + lease, attempts = n.attempts + 1
    WHERE n.id = ANY (ARRAY(
        SELECT d.id FROM holdfast.notifications d
        WHERE d.delivered_at IS NULL AND d.due_at <= (SELECT holdfast.clock()) AND d.channel = ANY (channels)
          AND NOT EXISTS (SELECT FROM holdfast.notifications e
                          WHERE e.incident_id = d.incident_id AND e.channel = d.channel AND e.delivered_at IS NULL
                            AND e.created_at < d.created_at)
          AND NOT EXISTS (SELECT FROM holdfast.monitors m
                          WHERE m.name = 'deliver_notifications'
                            AND (m.last_result -> 'paused' ->> d.channel)::timestamptz > (SELECT holdfast.clock()))
        ORDER BY d.due_at, d.id
        LIMIT max_notifications
        FOR UPDATE SKIP LOCKED))
    RETURNING n.id, n.incident_id, n.channel, n.reason, n.content, n.attempts, n.created_at;
$function$;

-- What became of a try: delivered (no error), or to be tried again after a while. The error holds no secret.
CREATE OR REPLACE FUNCTION holdfast.settle_notification(id uuid, error text, again_after interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE holdfast.notifications AS n
    SET delivered_at = CASE WHEN settle_notification.error IS NULL THEN holdfast.clock() END,
        error = settle_notification.error,
        due_at = coalesce(holdfast.clock() + again_after, n.due_at)
    WHERE n.id = settle_notification.id AND n.delivered_at IS NULL;
    RETURN FOUND;
END
$function$;

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (7, '007_dead_letters', '7e150f85996eeda07b4e345971a9447716ebda69836937e9e2f31e8fe8ff0e4c');
END
$holdfast$;
