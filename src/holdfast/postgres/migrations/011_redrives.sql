-- Holdfast migration 011_redrives
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 011_redrives.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 11) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- The dead-letter queues of SQS that anybody looks at: when, and what came of it. `expires_at`: when SQS deletes the oldest message
-- that is not kept whole here; of a queue that is only counted, when at the latest: `counted_since` is when messages were first counted
-- in it that were never found to be gone. One that nobody has looked at for long is nobody's any more: it was taken out of the settings.
CREATE TABLE IF NOT EXISTS holdfast.dead_letter_queues (
    name         text        COLLATE "C" NOT NULL PRIMARY KEY,
    looked_at    timestamptz,
    every        interval    NOT NULL,
    messages     bigint,
    captured     boolean     NOT NULL DEFAULT false,
    only_counted text,
    blind_since  timestamptz,
    error        text,
    expires_at   timestamptz,
    counted_since timestamptz
) WITH (fillfactor = 50);

-- Which of these dead-letter queues is it this process's turn to look at? Of all processes one wins in each interval, for each queue
-- by itself: processes with other queues do not stand in each other's way. A stamp from the future is one of a clock that was set
-- back.
CREATE OR REPLACE FUNCTION holdfast.begin_looks(queues text[], every interval) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    INSERT INTO holdfast.dead_letter_queues (name, every)
    SELECT q.name, begin_looks.every FROM unnest(queues) AS q (name)
    WHERE NOT EXISTS (SELECT FROM holdfast.dead_letter_queues k WHERE k.name = q.name)
    ORDER BY q.name
    ON CONFLICT (name) DO NOTHING;
    RETURN QUERY
    UPDATE holdfast.dead_letter_queues AS q
    SET looked_at = _now, every = begin_looks.every
    WHERE q.name = ANY (ARRAY(
        SELECT d.name FROM holdfast.dead_letter_queues d
        WHERE d.name = ANY (queues)
          AND (d.looked_at IS NULL OR d.looked_at <= _now - begin_looks.every * 0.95 OR d.looked_at > _now + begin_looks.every)
        ORDER BY d.name
        FOR UPDATE SKIP LOCKED))
    RETURNING q.name;
END
$function$;

-- What a look at a dead-letter queue came to. facts: {messages, captured, only_counted, error, retention: seconds}; with an error nothing
-- else is known, and what was known before stays. Returns since when nobody could look at it, and in how many seconds SQS deletes the
-- oldest of its messages that is not kept whole here: SQS counts from when a message was first sent. Of a queue that is only counted
-- nobody knows that; the oldest is taken to be there since messages were first counted, until a look counts none.
CREATE OR REPLACE FUNCTION holdfast.end_look(queue text, facts jsonb)
RETURNS TABLE (blind_since timestamptz, lost_in double precision)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE holdfast.dead_letter_queues AS q
    SET error = facts ->> 'error',
        blind_since = CASE WHEN facts ->> 'error' IS NOT NULL THEN coalesce(q.blind_since, c.now) END,
        messages = CASE WHEN facts ->> 'error' IS NULL THEN (facts ->> 'messages')::bigint ELSE q.messages END,
        captured = coalesce((facts ->> 'captured')::boolean, q.captured),
        only_counted = CASE WHEN facts ->> 'error' IS NULL THEN facts ->> 'only_counted' ELSE q.only_counted END,
        counted_since = CASE WHEN facts ->> 'error' IS NULL THEN c.counted_since ELSE q.counted_since END,
        expires_at = CASE WHEN facts ->> 'error' IS NULL THEN
            CASE WHEN facts ->> 'only_counted' IS NOT NULL THEN c.counted_since ELSE (
                SELECT min(d.sent_at) FROM holdfast.dead_letters d
                WHERE d.source = 'sqs' AND d.queue = end_look.queue AND d.gone_at IS NULL AND d.captured_at IS NULL) END
            + make_interval(secs => (facts ->> 'retention')::double precision) ELSE q.expires_at END
    FROM (SELECT n.now, CASE WHEN facts ->> 'only_counted' IS NOT NULL AND (facts ->> 'messages')::bigint > 0
                             THEN coalesce(k.counted_since, n.now) END AS counted_since
          FROM (SELECT holdfast.clock() AS now) n
          LEFT JOIN holdfast.dead_letter_queues k ON k.name = end_look.queue) c
    WHERE q.name = end_look.queue
    RETURNING q.blind_since, extract(epoch FROM q.expires_at - c.now)::double precision;
$function$;

-- The dead-letter queues that anybody looks at. `is_abandoned`: nobody has looked for an hour longer than it should be looked at three
-- times; what is open about it is over then, since nobody watches it any more.
CREATE OR REPLACE FUNCTION holdfast.list_dead_letter_queues(max_queues integer DEFAULT 1000)
RETURNS TABLE (
    name text, looked_at timestamptz, every interval, messages bigint, captured boolean, only_counted text, blind_since timestamptz,
    error text, expires_at timestamptz, is_abandoned boolean)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT q.name, q.looked_at, q.every, q.messages, q.captured, q.only_counted, q.blind_since, q.error, q.expires_at,
           coalesce(q.looked_at < (SELECT holdfast.clock()) - 3 * q.every - interval '1 hour', false)
    FROM holdfast.dead_letter_queues q
    ORDER BY q.name
    LIMIT max_queues;
$function$;

-- Sending dead letters on their way again: what was asked for, by whom, and how far it came. `filter` is what was asked for, the
-- letters of redrive_letters what that was at that moment: what arrives later is in none. After `canary` letters it waits until
-- their outcomes are known. `owner` works at it until `lease_until`; whoever finds that passed goes on in its place.
-- status: running | checking (the canary's outcomes) | paused | watching (all is sent, outcomes are awaited) | done | cancelled |
-- stopped (letters came back with the same cause). `reason` says why it is so.
CREATE TABLE IF NOT EXISTS holdfast.redrives (
    id           uuid        NOT NULL PRIMARY KEY,
    status       text        COLLATE "C" NOT NULL DEFAULT 'running',
    reason       text        NOT NULL DEFAULT '',
    requested_by text        NOT NULL,
    note         text,
    filter       jsonb       NOT NULL,
    target       text,
    canary       integer     NOT NULL DEFAULT 0,
    canary_wait  interval    NOT NULL DEFAULT '5 minutes',
    rate         double precision,
    total        integer     NOT NULL,
    created_at   timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    began_at     timestamptz NOT NULL,
    began_with   integer     NOT NULL DEFAULT 0,
    canary_at    timestamptz,
    canary_done  boolean     NOT NULL DEFAULT false,
    finished_at  timestamptz,
    owner        uuid,
    lease_until  timestamptz,
    CONSTRAINT redrives_status CHECK (status IN ('running', 'checking', 'paused', 'watching', 'done', 'cancelled', 'stopped')),
    CONSTRAINT redrives_rate CHECK (rate > 0),
    CONSTRAINT redrives_canary CHECK (canary >= 0)
);

CREATE INDEX IF NOT EXISTS redrives_active ON holdfast.redrives (created_at) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS redrives_finished ON holdfast.redrives (finished_at) WHERE finished_at IS NOT NULL;

-- The letters of a redrive. status: waiting | sending (whoever died then may have sent it, or not) | sent | succeeded | returned (it is
-- dead again) | skipped | failed | left (the redrive ended first). `detail` says why.
CREATE TABLE IF NOT EXISTS holdfast.redrive_letters (
    redrive_id uuid        NOT NULL,
    position   integer     NOT NULL,
    letter_id  uuid        NOT NULL,
    status     text        COLLATE "C" NOT NULL DEFAULT 'waiting',
    detail     text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL,
    CONSTRAINT redrive_letters_pkey PRIMARY KEY (redrive_id, position),
    CONSTRAINT redrive_letters_status CHECK (status IN
        ('waiting', 'sending', 'sent', 'succeeded', 'returned', 'skipped', 'failed', 'left'))
);

CREATE INDEX IF NOT EXISTS redrive_letters_open ON holdfast.redrive_letters (redrive_id, status, position)
WHERE status IN ('waiting', 'sending', 'sent');
CREATE INDEX IF NOT EXISTS redrive_letters_letter ON holdfast.redrive_letters (letter_id);

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

-- The dead letters that a filter means and that are there: {ids: [...], fingerprint, queue, source: job | sqs, kind, cause,
-- newer: span, older: span, gone: true for those too that are there no longer}, all of which must hold; what is not given does not
-- matter. `ids` may be ids of letters or of jobs.
CREATE OR REPLACE FUNCTION holdfast.matching_letters(filter jsonb) RETURNS SETOF holdfast.dead_letters
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.*
    FROM holdfast.dead_letters d
    WHERE (d.gone_at IS NULL OR (filter ->> 'gone')::boolean)
      AND (filter -> 'ids' IS NULL OR d.id::text IN (SELECT jsonb_array_elements_text(filter -> 'ids'))
           OR d.job_id IN (SELECT jsonb_array_elements_text(filter -> 'ids')))
      AND (filter ->> 'fingerprint' IS NULL OR d.fingerprint = filter ->> 'fingerprint')
      AND (filter ->> 'queue' IS NULL OR d.queue = filter ->> 'queue')
      AND (filter ->> 'source' IS NULL OR d.source = filter ->> 'source')
      AND (filter ->> 'kind' IS NULL OR d.kind = filter ->> 'kind')
      AND (filter ->> 'cause' IS NULL OR d.cause = filter ->> 'cause')
      AND (filter ->> 'newer' IS NULL
           OR d.first_seen_at > (SELECT holdfast.clock()) - (filter ->> 'newer')::interval)
      AND (filter ->> 'older' IS NULL
           OR d.first_seen_at <= (SELECT holdfast.clock()) - (filter ->> 'older')::interval);
$function$;

-- The dead letters that a filter means (`matching_letters`), by cause, the most first; with how many of them came back at least
-- `quarantine_after` times: a redrive leaves those out. Counts are exact.
CREATE OR REPLACE FUNCTION holdfast.letter_groups(filter jsonb DEFAULT '{}', quarantine_after integer DEFAULT 3,
    max_groups integer DEFAULT 1000)
RETURNS TABLE (
    fingerprint text, queue text, source text, kind text, cause text, letters bigint, captured bigint, quarantined bigint,
    returned bigint, oldest_at timestamptz, newest_at timestamptz, sample_id uuid, sample_job_id text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.fingerprint, min(d.queue), min(d.source), min(d.kind), min(d.cause), count(*),
           count(*) FILTER (WHERE d.captured_at IS NOT NULL), count(*) FILTER (WHERE d.returns >= quarantine_after),
           count(*) FILTER (WHERE d.returns > 0), min(coalesce(d.sent_at, d.first_seen_at)),
           max(coalesce(d.sent_at, d.first_seen_at)), (min(d.id::text))::uuid, min(d.job_id)
    FROM holdfast.matching_letters(filter) d
    GROUP BY d.fingerprint
    ORDER BY count(*) DESC, d.fingerprint
    LIMIT max_groups;
$function$;

-- Dead letters, the newest first. `filter` as `matching_letters` has it.
CREATE OR REPLACE FUNCTION holdfast.list_letters(filter jsonb DEFAULT '{}', max_letters integer DEFAULT 100)
RETURNS TABLE (
    id uuid, source text, queue text, job_id text, kind text, cause text, fingerprint text, received integer, sent_at timestamptz,
    first_seen_at timestamptz, gone_at timestamptz, captured_at timestamptz, returns integer, outcome text, bytes integer)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.id, d.source, d.queue, d.job_id, d.kind, d.cause, d.fingerprint, d.received, d.sent_at, d.first_seen_at, d.gone_at,
           d.captured_at, d.returns, d.outcome, octet_length(d.body)
    FROM holdfast.matching_letters(filter) d
    ORDER BY d.first_seen_at DESC, d.id
    LIMIT max_letters;
$function$;

-- One dead letter by the beginning or end of its id, or the beginning of its job's id, whole, with the job in the ledger that it was about: the true error
-- instead of "received too many times". Those of exactly that job first, then the newest, 2 at most: whoever asks sees that more letters
-- are meant.
CREATE OR REPLACE FUNCTION holdfast.show_letter(wanted text)
RETURNS TABLE (
    id uuid, source text, queue text, key text, job_id text, kind text, cause text, fingerprint text, body text, attributes jsonb,
    received integer, sent_at timestamptz, first_seen_at timestamptz, last_seen_at timestamptz, gone_at timestamptz,
    captured_at timestamptz, original jsonb, returns integer, earlier_id uuid, outcome text, outcome_at timestamptz,
    outcome_by text, outcome_reason text, incident_id uuid, job_status text, job_error jsonb, job_attempts integer,
    job_crashes integer, job_worker uuid, job_heartbeat_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.id, d.source, d.queue, d.key, d.job_id, d.kind, d.cause, d.fingerprint, d.body, d.attributes, d.received, d.sent_at,
           d.first_seen_at, d.last_seen_at, d.gone_at, d.captured_at, d.original, d.returns, d.earlier_id, d.outcome, d.outcome_at,
           d.outcome_by, d.outcome_reason, d.incident_id, j.status, j.error, j.attempts::integer, j.crashes::integer, j.worker_id,
           j.heartbeat_at
    FROM holdfast.dead_letters d
    -- Somebody else's id need not be one of ours, nor a uuid at all.
    LEFT JOIN holdfast.jobs j ON j.id = CASE WHEN d.job_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN d.job_id::uuid END
    WHERE starts_with(d.id::text, lower(wanted)) OR right(d.id::text, length(wanted)) = lower(wanted) OR starts_with(d.job_id, wanted)
    ORDER BY d.job_id IS NOT DISTINCT FROM wanted DESC, d.first_seen_at DESC, d.id
    LIMIT 2;
$function$;

-- The lives of a dead letter: the redrives that it was in, who asked for them, and what became of it; and those of the letters that
-- it was before, and came back as. The oldest first; 100 lives and 200 redrives at most.
CREATE OR REPLACE FUNCTION holdfast.letter_history(letter uuid)
RETURNS TABLE (
    letter_id uuid, returns integer, first_seen_at timestamptz, redrive_id uuid, requested_by text, at timestamptz, status text,
    detail text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE before AS (
        SELECT d.id, d.earlier_id, 0 AS depth FROM holdfast.dead_letters d WHERE d.id = letter_history.letter
        UNION ALL
        SELECT e.id, e.earlier_id, b.depth + 1 FROM before b JOIN holdfast.dead_letters e ON e.id = b.earlier_id WHERE b.depth < 100
    ), after AS (
        SELECT d.id, 0 AS depth FROM holdfast.dead_letters d WHERE d.id = letter_history.letter
        UNION ALL
        SELECT l.id, a.depth + 1 FROM after a JOIN holdfast.dead_letters l ON l.earlier_id = a.id WHERE a.depth < 100
    )
    SELECT d.id, d.returns, d.first_seen_at, r.id, r.requested_by, i.at, i.status, i.detail
    FROM holdfast.dead_letters d
    LEFT JOIN holdfast.redrive_letters i ON i.letter_id = d.id
    LEFT JOIN holdfast.redrives r ON r.id = i.redrive_id
    WHERE d.id IN (SELECT b.id FROM before b UNION SELECT a.id FROM after a)
    ORDER BY d.first_seen_at, i.at
    LIMIT 200;
$function$;

-- How many letters of a redrive are where. `same` of those that returned did so with the cause that they had before.
CREATE OR REPLACE FUNCTION holdfast.redrive_counts(redrive uuid)
RETURNS TABLE (
    waiting integer, sending integer, sent integer, succeeded integer, returned integer, same integer, skipped integer,
    failed integer, remaining integer)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT (count(*) FILTER (WHERE l.status = 'waiting'))::integer, (count(*) FILTER (WHERE l.status = 'sending'))::integer,
           (count(*) FILTER (WHERE l.status = 'sent'))::integer, (count(*) FILTER (WHERE l.status = 'succeeded'))::integer,
           (count(*) FILTER (WHERE l.status = 'returned'))::integer,
           (count(*) FILTER (WHERE l.status = 'returned' AND l.detail = 'the same cause'))::integer,
           (count(*) FILTER (WHERE l.status = 'skipped'))::integer, (count(*) FILTER (WHERE l.status = 'failed'))::integer,
           (count(*) FILTER (WHERE l.status = 'left'))::integer
    FROM holdfast.redrive_letters l
    WHERE l.redrive_id = redrive;
$function$;

-- What became of letters that were sent, as far as it is known: a job succeeded, or is dead (or cancelled) again; a message came back
-- as a new letter. Of messages that do not come back nothing is ever known. One bounded step; returns how many were judged.
CREATE OR REPLACE FUNCTION holdfast.judge_redrive(redrive uuid, max_letters integer DEFAULT 5000) RETURNS integer
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH judged AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE WHEN k.back IS NOT NULL THEN 'returned' ELSE 'succeeded' END,
            detail = CASE WHEN k.back = k.fingerprint THEN 'the same cause' ELSE coalesce(k.back, '') END,
            at = (SELECT holdfast.clock())
        FROM (
            SELECT s.position, d.fingerprint,
                   CASE WHEN j.status IN ('dead', 'cancelled') THEN coalesce(j.fingerprint, j.status) ELSE b.fingerprint END AS back,
                   j.status = 'succeeded' AS is_good
            FROM holdfast.redrive_letters s
            JOIN holdfast.dead_letters d ON d.id = s.letter_id
            -- What somebody else calls a job's id need not be a uuid.
            LEFT JOIN holdfast.jobs j ON j.id = CASE d.source WHEN 'job' THEN d.job_id::uuid END
            LEFT JOIN LATERAL (SELECT a.fingerprint FROM holdfast.dead_letters a WHERE a.earlier_id = d.id LIMIT 1) b
                   ON d.source = 'sqs'
            WHERE s.redrive_id = redrive AND s.status = 'sent'
              AND (j.status IN ('succeeded', 'dead', 'cancelled') OR b.fingerprint IS NOT NULL)
            LIMIT max_letters) k
        WHERE l.redrive_id = redrive AND l.position = k.position AND l.status = 'sent'
        RETURNING 1
    )
    SELECT count(*)::integer FROM judged;
$function$;

-- Ask for a redrive: the letters that the filter means now (`matching_letters`) are written down, and these and no others are
-- sent. opts: {by, note, target, canary, canary_wait, rate, quarantine_after, at_most}. Letters of a redrive that is under way are
-- left to it; what came back `quarantine_after` times is left out, unless it was asked for by its id. Asked for again with the
-- same id, it is the redrive that is there. Returns how many letters it has, and how many were left out, and why.
CREATE OR REPLACE FUNCTION holdfast.redrive_dead_letters(id uuid, filter jsonb, opts jsonb DEFAULT '{}')
RETURNS TABLE (total integer, quarantined integer, busy integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _after integer := coalesce((opts ->> 'quarantine_after')::integer, 3);
BEGIN
    SELECT r.total, 0, 0 INTO total, quarantined, busy FROM holdfast.redrives r WHERE r.id = redrive_dead_letters.id;
    IF FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    WITH wanted AS MATERIALIZED (
        SELECT m.id, m.sent_at, m.first_seen_at,
               m.redrive_id IN (SELECT r.id FROM holdfast.redrives r WHERE r.finished_at IS NULL) AS is_busy,
               m.returns >= _after AND NOT coalesce(filter -> 'ids' ? m.id::text OR filter -> 'ids' ? m.job_id, false) AS is_poison
        FROM holdfast.dead_letters m
        WHERE m.id IN (SELECT f.id FROM holdfast.matching_letters(redrive_dead_letters.filter - 'gone') f
                       LIMIT coalesce((opts ->> 'at_most')::integer, 1000000))
        FOR UPDATE
    ), written AS (
        INSERT INTO holdfast.redrive_letters (redrive_id, position, letter_id, at)
        SELECT redrive_dead_letters.id, row_number() OVER (ORDER BY coalesce(w.sent_at, w.first_seen_at), w.id), w.id, _now
        FROM wanted w
        WHERE w.is_busy IS NOT TRUE AND NOT w.is_poison
        RETURNING letter_id
    ), marked AS (
        UPDATE holdfast.dead_letters AS d SET redrive_id = redrive_dead_letters.id
        FROM written w WHERE d.id = w.letter_id
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM marked), count(*) FILTER (WHERE w.is_poison AND w.is_busy IS NOT TRUE),
           count(*) FILTER (WHERE w.is_busy)
    INTO total, quarantined, busy
    FROM wanted w;
    INSERT INTO holdfast.redrives (id, status, requested_by, note, filter, target, canary, canary_wait, rate, total, created_at,
        changed_at, began_at, finished_at)
    VALUES (redrive_dead_letters.id, CASE WHEN total = 0 THEN 'done' ELSE 'running' END, left(coalesce(opts ->> 'by', ''), 200),
            left(opts ->> 'note', 2000), redrive_dead_letters.filter, opts ->> 'target', coalesce((opts ->> 'canary')::integer, 0),
            coalesce((opts ->> 'canary_wait')::interval, '5 minutes'), (opts ->> 'rate')::double precision, total, _now, _now, _now,
            CASE WHEN total = 0 THEN _now END);
    RETURN NEXT;
END
$function$;

-- Take a redrive that nobody works at, or renew one's own; `one` of them. The one that was taken longest ago comes first: none that
-- only waits for outcomes stands before the others. For `lease` nobody else takes it.
-- How far it is: counts of its letters by status, of the canary those with a known good outcome, and how long ago it began at its
-- rate (with how many sent before) and its canary was sent, in seconds.
CREATE OR REPLACE FUNCTION holdfast.claim_redrive(owner uuid, lease interval, one uuid DEFAULT NULL)
RETURNS TABLE (
    id uuid, status text, requested_by text, target text, canary integer, canary_wait double precision, canary_done boolean,
    rate double precision, total integer, waiting integer, sending integer, sent integer, succeeded integer, returned integer,
    same integer, skipped integer, failed integer, began_with integer, began_ago double precision, canary_ago double precision)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _id  uuid;
BEGIN
    UPDATE holdfast.redrives AS r
    SET owner = claim_redrive.owner, lease_until = _now + lease
    WHERE r.id = (
        SELECT c.id FROM holdfast.redrives c
        WHERE c.finished_at IS NULL AND c.status <> 'paused' AND (one IS NULL OR c.id = one)
          AND (c.owner IS NULL OR c.owner = claim_redrive.owner OR c.lease_until < _now)
        ORDER BY c.lease_until NULLS FIRST, c.created_at, c.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED)
    RETURNING r.id INTO _id;
    IF _id IS NULL THEN
        RETURN;
    END IF;
    PERFORM holdfast.judge_redrive(_id);
    RETURN QUERY
    SELECT r.id, r.status, r.requested_by, r.target, r.canary, extract(epoch FROM r.canary_wait)::double precision, r.canary_done,
           r.rate, r.total, c.waiting, c.sending, c.sent, c.succeeded, c.returned, c.same, c.skipped, c.failed, r.began_with,
           extract(epoch FROM _now - r.began_at)::double precision, extract(epoch FROM _now - r.canary_at)::double precision
    FROM holdfast.redrives r
    CROSS JOIN LATERAL holdfast.redrive_counts(r.id) c
    WHERE r.id = _id;
END
$function$;

-- Give jobs of a redrive another life: the next ones that wait, in one transaction with what is written about it, so that each is
-- given one life, whoever dies when. Only whoever holds the redrive may. Returns how many were looked at.
CREATE OR REPLACE FUNCTION holdfast.redrive_jobs(redrive uuid, owner uuid, max_letters integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _by   text;
    _ids  uuid[];
    _jobs uuid[];
BEGIN
    SELECT r.requested_by INTO _by FROM holdfast.redrives r
    WHERE r.id = redrive AND r.owner = redrive_jobs.owner AND r.finished_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT array_agg(n.letter_id), array_agg(n.job_id)
    INTO _ids, _jobs
    FROM (SELECT l.letter_id, CASE d.source WHEN 'job' THEN d.job_id::uuid END AS job_id
          FROM holdfast.redrive_letters l
          JOIN holdfast.dead_letters d ON d.id = l.letter_id
          WHERE l.redrive_id = redrive AND l.status = 'waiting' AND d.source = 'job'
          ORDER BY l.position
          LIMIT max_letters) n;
    IF _ids IS NULL THEN
        RETURN 0;
    END IF;
    WITH verdicts AS MATERIALIZED (
        -- A job that somebody retried meanwhile is not given a life again: it has one.
        SELECT v.id, v.verdict
        FROM holdfast.retry_jobs(
            ARRAY(SELECT j.id FROM holdfast.jobs j WHERE j.id = ANY (_jobs) AND j.status = 'dead'),
            jsonb_build_object('reason', 'redrive')) v
    ), written AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE WHEN v.verdict = 'queued' THEN 'sent' ELSE 'skipped' END, at = _now,
            detail = CASE WHEN v.verdict = 'queued' THEN '' ELSE coalesce(v.verdict, 'no longer dead') END
        FROM holdfast.dead_letters d
        LEFT JOIN verdicts v ON v.id = CASE d.source WHEN 'job' THEN d.job_id::uuid END
        WHERE l.redrive_id = redrive AND l.letter_id = ANY (_ids) AND d.id = l.letter_id
        RETURNING l.letter_id, l.status
    )
    UPDATE holdfast.dead_letters AS d
    SET gone_at = CASE WHEN w.status = 'sent' THEN _now ELSE d.gone_at END,
        outcome = CASE WHEN w.status = 'sent' THEN 'redriven' ELSE d.outcome END,
        outcome_at = CASE WHEN w.status = 'sent' THEN _now ELSE d.outcome_at END,
        outcome_by = CASE WHEN w.status = 'sent' THEN _by ELSE d.outcome_by END
    FROM written w
    WHERE d.id = w.letter_id;
    RETURN cardinality(_ids);
END
$function$;

-- The next messages of a redrive, to be sent by whoever holds it. Those that somebody was about to send when he died come first,
-- `again` true: they may have been sent. What is not captured (`captured` false) still lies in its queue, and is to be taken out
-- of there first.
CREATE OR REPLACE FUNCTION holdfast.take_redrive_messages(redrive uuid, owner uuid, max_letters integer)
RETURNS TABLE (letter_id uuid, queue text, key text, body text, original jsonb, returns integer, captured boolean, again boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM FROM holdfast.redrives r
    WHERE r.id = redrive AND r.owner = take_redrive_messages.owner AND r.finished_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH next AS (
        SELECT l.position, l.status
        FROM holdfast.redrive_letters l
        JOIN holdfast.dead_letters d ON d.id = l.letter_id
        WHERE l.redrive_id = redrive AND l.status IN ('waiting', 'sending') AND d.source = 'sqs'
        ORDER BY l.status, l.position
        LIMIT max_letters
    ), taken AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = 'sending', at = (SELECT holdfast.clock())
        FROM next n
        WHERE l.redrive_id = redrive AND l.position = n.position
        RETURNING l.letter_id, n.status AS was
    )
    SELECT d.id, d.queue, d.key, d.body, d.original, d.returns, d.captured_at IS NOT NULL, t.was = 'sending'
    FROM taken t JOIN holdfast.dead_letters d ON d.id = t.letter_id;
END
$function$;

-- What became of messages that were to be sent. results: [{letter_id, status: sent | skipped | failed | waiting, detail}]. A letter that
-- was sent is redriven, and its queue is looked at soon: it may come back; one that waits again is tried again. Only whoever holds the redrive may. Returns how many were settled.
CREATE OR REPLACE FUNCTION holdfast.settle_redrive_messages(redrive uuid, owner uuid, results jsonb) RETURNS integer
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH held AS (
        SELECT r.id, r.requested_by, c.now
        FROM (SELECT holdfast.clock() AS now) c, holdfast.redrives r
        WHERE r.id = redrive AND r.owner = settle_redrive_messages.owner
    ), written AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = s.status, detail = left(coalesce(s.detail, ''), 500), at = h.now
        FROM held h, jsonb_to_recordset(results) AS s (letter_id uuid, status text, detail text)
        WHERE l.redrive_id = h.id AND l.letter_id = s.letter_id AND l.status = 'sending'
        RETURNING l.letter_id, l.status
    ), told AS (
        UPDATE holdfast.dead_letters AS d
        SET gone_at = h.now, outcome = 'redriven', outcome_at = h.now, outcome_by = h.requested_by
        FROM held h, written w
        WHERE d.id = w.letter_id AND w.status = 'sent'
        RETURNING 1
    ), sooner AS (
        UPDATE holdfast.dead_letter_queues AS q
        SET looked_at = least(q.looked_at, h.now - q.every + interval '30 seconds')
        FROM held h
        WHERE q.name IN (SELECT d.queue FROM holdfast.dead_letters d JOIN written w ON w.letter_id = d.id AND w.status = 'sent')
        RETURNING 1
    )
    SELECT count(*)::integer FROM written;
$function$;

-- Change what a redrive is about to do. action: check (its canary is sent) | go_on (its canary is well) | pause | resume | watch (all is
-- sent) | finish | stop | cancel, each with its reason. What was not sent stays what it was, a dead letter. Nothing is done to one that
-- has ended. Returns its status, null where there is none.
CREATE OR REPLACE FUNCTION holdfast.change_redrive(id uuid, action text, reason text DEFAULT '') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now    timestamptz := holdfast.clock();
    _status text;
    _ends   boolean := action IN ('finish', 'stop', 'cancel');
BEGIN
    IF _ends THEN
        PERFORM holdfast.judge_redrive(change_redrive.id);
    END IF;
    UPDATE holdfast.redrives AS r
    SET status = CASE action WHEN 'check' THEN 'checking' WHEN 'go_on' THEN 'running' WHEN 'pause' THEN 'paused'
                             WHEN 'resume' THEN 'running' WHEN 'watch' THEN 'watching' WHEN 'finish' THEN 'done'
                             WHEN 'stop' THEN 'stopped' WHEN 'cancel' THEN 'cancelled' END,
        reason = change_redrive.reason, changed_at = _now,
        canary_at = CASE action WHEN 'check' THEN _now WHEN 'watch' THEN _now ELSE r.canary_at END,
        canary_done = r.canary_done OR action IN ('go_on', 'resume'),
        began_at = CASE WHEN action IN ('go_on', 'resume') THEN _now ELSE r.began_at END,
        began_with = CASE WHEN action IN ('go_on', 'resume') THEN (
            SELECT count(*) FROM holdfast.redrive_letters l
            WHERE l.redrive_id = r.id AND l.status IN ('sent', 'succeeded', 'returned')) ELSE r.began_with END,
        owner = CASE WHEN _ends OR action = 'pause' THEN NULL ELSE r.owner END,
        finished_at = CASE WHEN _ends THEN _now END
    WHERE r.id = change_redrive.id AND r.finished_at IS NULL
      AND (action <> 'resume' OR r.status = 'paused')
    RETURNING r.status INTO _status;
    IF FOUND AND _ends THEN
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE l.status WHEN 'waiting' THEN 'left' ELSE 'failed' END, at = _now,
            detail = CASE l.status WHEN 'waiting' THEN '' ELSE 'it may have been sent, or not' END
        WHERE l.redrive_id = change_redrive.id AND l.status IN ('waiting', 'sending');
    END IF;
    IF _status IS NULL THEN
        SELECT r.status INTO _status FROM holdfast.redrives r WHERE r.id = change_redrive.id;
    END IF;
    RETURN _status;
END
$function$;

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

-- Somebody decides that the letters of a filter (`matching_letters`) need no more doing. Each stays in the ledger, with who said so and
-- why; jobs stay dead. Those of a redrive that is under way are left to it. Returns how many.
CREATE OR REPLACE FUNCTION holdfast.discard_dead_letters(filter jsonb, by text, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _done bigint;
BEGIN
    IF coalesce(btrim(discard_dead_letters.reason), '') = '' THEN
        RAISE EXCEPTION 'discarding dead letters needs a reason: it is kept with them' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE holdfast.dead_letters AS d
    SET gone_at = _now, outcome = 'discarded', outcome_at = _now, outcome_by = left(discard_dead_letters.by, 200),
        -- Nobody need be told of it any more.
        outcome_reason = left(discard_dead_letters.reason, 2000), incident_id = coalesce(d.incident_id, d.id)
    WHERE d.id IN (SELECT m.id FROM holdfast.matching_letters(discard_dead_letters.filter - 'gone') m)
      AND d.gone_at IS NULL
      AND NOT coalesce(d.redrive_id IN (SELECT r.id FROM holdfast.redrives r WHERE r.finished_at IS NULL), false);
    GET DIAGNOSTICS _done = ROW_COUNT;
    RETURN _done;
END
$function$;

-- SQS has moved all messages of a dead-letter queue itself: the letters that were seen there before it began, and are not kept whole
-- here, are redriven. Returns how many.
CREATE OR REPLACE FUNCTION holdfast.note_moved_letters(queue text, began timestamptz, by text, detail text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH moved AS (
        UPDATE holdfast.dead_letters AS d
        SET gone_at = c.now, outcome = 'redriven', outcome_at = c.now, outcome_by = left(note_moved_letters.by, 200),
            outcome_reason = left(detail, 2000)
        FROM (SELECT holdfast.clock() AS now) c
        WHERE d.source = 'sqs' AND d.queue = note_moved_letters.queue AND d.gone_at IS NULL AND d.captured_at IS NULL
          AND d.last_seen_at <= began
        RETURNING 1
    )
    SELECT count(*) FROM moved;
$function$;

-- How many dead jobs retention removes within `notice`, and when the first of them: what nobody has decided about until then is gone
-- for good. Counts go to 10,000. Walks the index on finished_at from its oldest end, so what is kept longer costs nothing.
CREATE OR REPLACE FUNCTION holdfast.dead_jobs_expiring(keep interval, notice interval)
RETURNS TABLE (jobs bigint, first_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*), min(d.finished_at) + keep
    FROM (SELECT o.status, o.finished_at FROM holdfast.jobs o
          WHERE o.status IN ('succeeded', 'dead', 'cancelled')
            AND o.finished_at < (SELECT holdfast.clock()) - keep + notice
          ORDER BY o.finished_at, o.id LIMIT 10000) d
    WHERE d.status = 'dead';
$function$;

-- How many seconds ago stuck jobs were swept last, by anybody; null for never.
CREATE OR REPLACE FUNCTION holdfast.last_sweep() RETURNS double precision
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT extract(epoch FROM (SELECT holdfast.clock()) - m.swept_at)::double precision
    FROM holdfast.monitors m WHERE m.name = 'rescue_stale_jobs';
$function$;

-- The client's transaction that has been open for longest, as far as this role may see: what keeps dead rows alive, and brings every
-- queue of a Postgres down. One row, or none.
CREATE OR REPLACE FUNCTION holdfast.oldest_transaction()
RETURNS TABLE (pid integer, application text, state text, age double precision)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
           extract(epoch FROM clock_timestamp() - a.xact_start)::double precision
    FROM pg_catalog.pg_stat_activity a
    WHERE a.backend_type = 'client backend' AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
    ORDER BY a.xact_start
    LIMIT 1;
$function$;

-- Forget what was decided, delivered and over long ago: dead letters that are gone, redrives that have ended with their letters,
-- delivered notifications, resolved incidents, and dead-letter queues that nobody looks at. What is still to be decided about stays,
-- however old. One bounded step; returns how many rows went.
CREATE OR REPLACE FUNCTION holdfast.prune_letters(keep interval DEFAULT '90 days', max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH letters AS (
        DELETE FROM holdfast.dead_letters d
        USING (SELECT o.id FROM holdfast.dead_letters o
               WHERE o.gone_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE d.id = old.id
        RETURNING 1
    ), ended AS (
        SELECT o.id FROM holdfast.redrives o
        WHERE o.finished_at < (SELECT holdfast.clock()) - keep ORDER BY o.finished_at LIMIT 10
    ), parts AS (
        DELETE FROM holdfast.redrive_letters l
        USING (SELECT p.redrive_id, p.position FROM holdfast.redrive_letters p
               WHERE p.redrive_id IN (SELECT e.id FROM ended e) LIMIT max_rows) old
        WHERE l.redrive_id = old.redrive_id AND l.position = old.position
        RETURNING 1
    ), redrives AS (
        DELETE FROM holdfast.redrives r
        USING ended e
        WHERE r.id = e.id AND NOT EXISTS (SELECT FROM holdfast.redrive_letters l WHERE l.redrive_id = r.id)
        RETURNING 1
    ), told AS (
        DELETE FROM holdfast.notifications n
        USING (SELECT o.id FROM holdfast.notifications o
               WHERE o.delivered_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE n.id = old.id
        RETURNING 1
    ), incidents AS (
        DELETE FROM holdfast.incidents i
        USING (SELECT o.id FROM holdfast.incidents o
               WHERE o.status = 'resolved' AND o.changed_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE i.id = old.id
        RETURNING 1
    ), queues AS (
        DELETE FROM holdfast.dead_letter_queues q
        WHERE q.looked_at < (SELECT holdfast.clock()) - greatest(keep, interval '7 days')
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM letters) + (SELECT count(*) FROM parts) + (SELECT count(*) FROM redrives)
         + (SELECT count(*) FROM told) + (SELECT count(*) FROM incidents) + (SELECT count(*) FROM queues);
$function$;

SELECT holdfast.expose_functions(ARRAY['begin_looks', 'end_look', 'list_dead_letter_queues', 'list_incidents', 'incident_history', 'incident_ack', 'incident_silence', 'letter_groups', 'list_letters', 'show_letter', 'letter_history', 'redrive_dead_letters', 'claim_redrive', 'redrive_jobs', 'take_redrive_messages', 'settle_redrive_messages', 'change_redrive', 'list_redrives', 'discard_dead_letters', 'note_moved_letters', 'dead_jobs_expiring', 'last_sweep', 'oldest_transaction', 'prune_letters']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (11, '011_redrives', '24c0f8b8c1d2c80273767533f6edcd478cd0aa3e9063a12a4fe9f8b613242fcc');
END
$holdfast$;
