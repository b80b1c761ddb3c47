-- Holdfast migration 017_dashboard
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 017_dashboard.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 17) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Who is signed in to the dashboard, and the links that sign somebody in once. Only the hash of a secret is kept. `actor` is what
-- people read ("key deploy", "link of root@host"); a session made with a key ends with it. `ended_at`: signed out, or used up.
CREATE TABLE IF NOT EXISTS holdfast.sessions (
    id          text        COLLATE "C" NOT NULL PRIMARY KEY,
    kind        text        COLLATE "C" NOT NULL,
    secret_hash text        NOT NULL,
    role        text        COLLATE "C" NOT NULL,
    actor       text        NOT NULL,
    key_id      text        COLLATE "C",
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    CONSTRAINT sessions_kind CHECK (kind IN ('link', 'session'))
);

CREATE INDEX IF NOT EXISTS sessions_expires ON holdfast.sessions (expires_at);

-- Refuses what would change the audit log: it only grows. Rows may go after 400 days.
CREATE OR REPLACE FUNCTION holdfast.guard_audit_log() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < holdfast.clock() - interval '400 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = '42501', HINT = 'Rows may be removed after 400 days.';
END
$function$;

-- Who changed what: one row for each change that somebody asked for over the API or the dashboard, written in the statement that
-- makes the change. It grows only: a trigger refuses to change a row, or to remove one before it is 400 days old.
-- `via`: key | session | open (this machine, while nobody has made a key). `outcome` is what became of it, 100 rows at most.
CREATE TABLE IF NOT EXISTS holdfast.audit_log (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    role    text        COLLATE "C" NOT NULL,
    via     text        COLLATE "C" NOT NULL,
    address text        NOT NULL DEFAULT '',
    action  text        COLLATE "C" NOT NULL,
    target  text        NOT NULL DEFAULT '',
    details jsonb       NOT NULL DEFAULT '{}',
    outcome jsonb       NOT NULL DEFAULT '[]'
);

DROP TRIGGER IF EXISTS guard_rows ON holdfast.audit_log;
CREATE TRIGGER guard_rows BEFORE UPDATE OR DELETE ON holdfast.audit_log
    FOR EACH ROW EXECUTE FUNCTION holdfast.guard_audit_log();
DROP TRIGGER IF EXISTS guard_all ON holdfast.audit_log;
CREATE TRIGGER guard_all BEFORE TRUNCATE ON holdfast.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.guard_audit_log();

-- Actions on all jobs that match a filter, as they go on. `filter` as `search_jobs` has it. Jobs are gone through in the order
-- of their ids, from behind `after_id` up to `last_id`, which is where the ids stood when it was asked for: what comes to match
-- later is not touched, and nothing is touched twice. `verdicts` counts what became of them; `samples` are ids of each, 20 at most.
CREATE TABLE IF NOT EXISTS holdfast.bulk_operations (
    id          uuid        NOT NULL PRIMARY KEY,
    action      text        COLLATE "C" NOT NULL,
    filter      jsonb       NOT NULL,
    actor       text        NOT NULL,
    status      text        COLLATE "C" NOT NULL DEFAULT 'running',
    expected    bigint      NOT NULL,
    is_more     boolean     NOT NULL DEFAULT false,
    looked      bigint      NOT NULL DEFAULT 0,
    done        bigint      NOT NULL DEFAULT 0,
    verdicts    jsonb       NOT NULL DEFAULT '{}',
    samples     jsonb       NOT NULL DEFAULT '{}',
    after_id    uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    last_id     uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT bulk_operations_action CHECK (action IN ('retry', 'cancel')),
    CONSTRAINT bulk_operations_status CHECK (status IN ('running', 'done', 'cancelled'))
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS bulk_operations_running ON holdfast.bulk_operations (changed_at) WHERE status = 'running';

-- One page of jobs that match a filter, newest first, in bounded time however many jobs there are: at most `max_looked` rows are
-- read. filter: {status, queue, kind, error, key, args, fingerprint, created_after, created_before}; `error` is part of its type or message, in
-- either case; `key` a unique, group or limit key; `args` a document that the arguments contain.
-- Where those in a state are fewer than `max_looked` they are all looked at, over the index of that state; else the newest rows
-- before `before_id` are. Answers {jobs, next, complete, looked_to}: `next` is where the following page begins, null at the end;
-- `complete` is false where the page ended because enough was looked at, and `looked_to` is how far back that was.
CREATE OR REPLACE FUNCTION holdfast.search_jobs(filter jsonb, before_id uuid, max_jobs integer DEFAULT 50,
    max_looked integer DEFAULT 10000)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _status text        := filter ->> 'status';
    _queue  text        := filter ->> 'queue';
    _kind   text        := filter ->> 'kind';
    _error  text        := lower(filter ->> 'error');
    _key    text        := filter ->> 'key';
    _args   jsonb       := filter -> 'args';
    _cause  text        := filter ->> 'fingerprint';
    _after  timestamptz := (filter ->> 'created_after')::timestamptz;
    _until  timestamptz := (filter ->> 'created_before')::timestamptz;
    _before uuid        := coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    _ids    uuid[];
    _few    boolean     := false;
    _jobs   jsonb;
    _found  integer;
    _last   record;
BEGIN
    IF _status = 'queued' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'queued'
              AND (_queue IS NULL OR j.queue = _queue) AND (_kind IS NULL OR j.kind = _kind) LIMIT max_looked + 1) s;
    ELSIF _status = 'running' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'running' LIMIT max_looked + 1) s;
    ELSIF _status = 'dead' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'dead'
              AND (_cause IS NULL OR j.fingerprint = _cause) LIMIT max_looked + 1) s;
    END IF;
    _few := coalesce(_status IN ('queued', 'running', 'dead'), false) AND coalesce(cardinality(_ids), 0) <= max_looked;

    WITH looked AS (
        SELECT j.*
        FROM (SELECT u.id FROM unnest(_ids) AS u (id) WHERE u.id < _before ORDER BY u.id DESC) o
        JOIN LATERAL (SELECT * FROM holdfast.jobs j WHERE j.id = o.id) j ON true
        WHERE _few
        UNION ALL
        (SELECT j.* FROM holdfast.jobs j WHERE NOT _few AND j.id < _before ORDER BY j.id DESC LIMIT max_looked)
    ), page AS (
        SELECT l.*
        FROM looked l
        WHERE (_status IS NULL OR l.status = _status)
          AND (_queue IS NULL OR l.queue = _queue)
          AND (_kind IS NULL OR l.kind = _kind)
          AND (_error IS NULL OR position(_error IN lower(concat_ws(': ', l.error ->> 'type', l.error ->> 'message'))) > 0)
          AND (_key IS NULL OR _key IN (l.unique_key, l.group_key, l.limit_key))
          AND (_args IS NULL OR l.args @> _args)
          AND (_cause IS NULL OR l.fingerprint = _cause)
          AND (_after IS NULL OR l.created_at >= _after)
          AND (_until IS NULL OR l.created_at < _until)
        LIMIT max_jobs + 1
    )
    SELECT jsonb_agg(jsonb_build_object(
               'id', p.id, 'queue', p.queue, 'kind', p.kind, 'status', p.status, 'attempts', p.attempts,
               'max_attempts', p.max_attempts, 'lease', p.lease, 'run_at', p.run_at, 'claimed_at', p.claimed_at,
               'heartbeat_at', p.heartbeat_at, 'finished_at', p.finished_at, 'created_at', p.created_at,
               'error', left(p.error ->> 'message', 500), 'error_type', p.error ->> 'type', 'suspect', p.suspect,
               'cancel_requested', p.cancel_requested_at IS NOT NULL AND p.finished_at IS NULL,
               'known', CASE WHEN p.status = 'queued' THEN EXISTS (
                   SELECT FROM holdfast.workers w WHERE w.gone_at IS NULL AND p.kind = ANY (w.kinds)) END)
               ORDER BY p.id DESC),
           count(*)
    INTO _jobs, _found
    FROM page p;

    IF _found > max_jobs THEN
        _jobs := _jobs - max_jobs;
        RETURN jsonb_build_object('jobs', _jobs, 'next', _jobs -> (max_jobs - 1) ->> 'id', 'complete', true, 'looked_to', NULL);
    END IF;
    IF NOT _few THEN
        SELECT j.id, j.created_at INTO _last
        FROM holdfast.jobs j WHERE j.id < _before ORDER BY j.id DESC OFFSET max_looked - 1 LIMIT 1;
        -- Ids are made at creation, give or take a clock: what is a day older than the filter asks is the end.
        IF FOUND AND (_after IS NULL OR _last.created_at >= _after - interval '1 day') THEN
            RETURN jsonb_build_object('jobs', coalesce(_jobs, '[]'), 'next', _last.id, 'complete', false,
                'looked_to', _last.created_at);
        END IF;
    END IF;
    RETURN jsonb_build_object('jobs', coalesce(_jobs, '[]'), 'next', NULL, 'complete', true, 'looked_to', NULL);
END
$function$;

-- How many jobs an action on all that match a filter would meet, for somebody who is about to ask for it. At most `max_looked` jobs in
-- the filter's status are looked at; where there are more, `is_more` says so. Answers {jobs, is_more, last_id, groups}: `last_id` is where
-- the ids stand now, `groups` how many of which kind and queue. The filter is that of search_jobs, with a status.
CREATE OR REPLACE FUNCTION holdfast.count_matching_jobs(filter jsonb, max_looked integer DEFAULT 10000) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _status text := filter ->> 'status';
    _answer jsonb;
BEGIN
    WITH looked AS MATERIALIZED (
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j WHERE j.status = 'queued' AND _status = 'queued' LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j WHERE j.status = 'running' AND _status = 'running' LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j
         WHERE j.status = 'dead' AND _status = 'dead'
           AND (filter ->> 'fingerprint' IS NULL OR j.fingerprint = filter ->> 'fingerprint') LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM (SELECT n.* FROM holdfast.jobs n WHERE _status NOT IN ('queued', 'running', 'dead')
               ORDER BY n.id DESC LIMIT max_looked) j
         WHERE j.status = _status)
    ), groups AS (
        SELECT l.kind, l.queue, count(*) AS jobs
        FROM looked l
        WHERE (filter ->> 'queue' IS NULL OR l.queue = filter ->> 'queue')
          AND (filter ->> 'kind' IS NULL OR l.kind = filter ->> 'kind')
          AND (filter ->> 'fingerprint' IS NULL OR l.fingerprint = filter ->> 'fingerprint')
          AND (filter ->> 'error' IS NULL OR position(lower(filter ->> 'error')
               IN lower(concat_ws(': ', l.error ->> 'type', l.error ->> 'message'))) > 0)
          AND (filter ->> 'key' IS NULL OR filter ->> 'key' IN (l.unique_key, l.group_key, l.limit_key))
          AND (filter -> 'args' IS NULL OR l.args @> (filter -> 'args'))
          AND (filter ->> 'created_after' IS NULL OR l.created_at >= (filter ->> 'created_after')::timestamptz)
          AND (filter ->> 'created_before' IS NULL OR l.created_at < (filter ->> 'created_before')::timestamptz)
        GROUP BY l.kind, l.queue
    )
    SELECT jsonb_build_object(
        'jobs', coalesce((SELECT sum(g.jobs) FROM groups g), 0),
        'is_more', (SELECT count(*) FROM looked) >= max_looked
            OR (_status NOT IN ('queued', 'running', 'dead')
                AND EXISTS (SELECT FROM holdfast.jobs j ORDER BY j.id DESC OFFSET max_looked LIMIT 1)),
        'last_id', (SELECT j.id FROM holdfast.jobs j ORDER BY j.id DESC LIMIT 1),
        'groups', (SELECT coalesce(jsonb_agg(g ORDER BY g.jobs DESC, g.kind, g.queue), '[]')
                   FROM (SELECT t.* FROM groups t ORDER BY t.jobs DESC LIMIT 20) g))
    INTO _answer;
    RETURN _answer;
END
$function$;

-- One bounded step of an operation that is under way: at most `max_looked` jobs are looked at and `max_jobs` acted on, in one
-- transaction with the note of it, so that a step is made once or not at all, whoever dies. Whoever calls takes the operation that
-- waits longest; others leave it alone meanwhile. A job that is no longer what the filter asked for is counted by its verdict.
-- Answers the operation's id and status; no row where there is nothing to do.
CREATE OR REPLACE FUNCTION holdfast.step_bulk_operation(max_jobs integer DEFAULT 200, max_looked integer DEFAULT 20000)
RETURNS TABLE (id uuid, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _op    holdfast.bulk_operations;
    _ids   uuid[];
    _upto  uuid;
    _count bigint;
    _each  record;
BEGIN
    SELECT o.* INTO _op FROM holdfast.bulk_operations o WHERE o.status = 'running'
    ORDER BY o.changed_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    WITH looked AS (
        SELECT j.*, row_number() OVER (ORDER BY j.id) AS n
        FROM (SELECT k.* FROM holdfast.jobs k WHERE k.id > _op.after_id AND k.id <= _op.last_id ORDER BY k.id LIMIT max_looked) j
    ), matching AS (
        SELECT l.id, l.n
        FROM looked l
        WHERE l.status = _op.filter ->> 'status'
          AND (_op.filter ->> 'queue' IS NULL OR l.queue = _op.filter ->> 'queue')
          AND (_op.filter ->> 'kind' IS NULL OR l.kind = _op.filter ->> 'kind')
          AND (_op.filter ->> 'error' IS NULL OR position(lower(_op.filter ->> 'error')
               IN lower(concat_ws(': ', l.error ->> 'type', l.error ->> 'message'))) > 0)
          AND (_op.filter ->> 'key' IS NULL OR _op.filter ->> 'key' IN (l.unique_key, l.group_key, l.limit_key))
          AND (_op.filter ->> 'fingerprint' IS NULL OR l.fingerprint = _op.filter ->> 'fingerprint')
          AND (_op.filter -> 'args' IS NULL OR l.args @> (_op.filter -> 'args'))
          AND (_op.filter ->> 'created_after' IS NULL OR l.created_at >= (_op.filter ->> 'created_after')::timestamptz)
          AND (_op.filter ->> 'created_before' IS NULL OR l.created_at < (_op.filter ->> 'created_before')::timestamptz)
        ORDER BY l.id
        LIMIT max_jobs
    ), upto AS (
        -- A full step ends with its last job; another one with the last row that was looked at.
        SELECT CASE WHEN (SELECT count(*) FROM matching) = max_jobs THEN (SELECT max(m.n) FROM matching m)
                    ELSE (SELECT max(l.n) FROM looked l) END AS n
    )
    SELECT (SELECT array_agg(m.id ORDER BY m.id) FROM matching m),
           (SELECT l.id FROM looked l JOIN upto u ON l.n = u.n),
           coalesce((SELECT u.n FROM upto u), 0)
    INTO _ids, _upto, _count;

    IF _ids IS NOT NULL THEN
        FOR _each IN
            SELECT v.verdict, count(*) AS jobs, (array_agg(v.id ORDER BY v.id))[1:20] AS ids
            FROM (SELECT r.id, r.verdict FROM holdfast.retry_jobs(CASE WHEN _op.action = 'retry' THEN _ids ELSE '{}' END) r
                  UNION ALL
                  SELECT c.id, CASE c.verdict WHEN 'finished' THEN c.status ELSE c.verdict END
                  FROM holdfast.cancel_jobs(CASE WHEN _op.action = 'cancel' THEN _ids ELSE '{}' END) c) v
            GROUP BY v.verdict
        LOOP
            _op.verdicts := _op.verdicts || jsonb_build_object(
                _each.verdict, coalesce((_op.verdicts ->> _each.verdict)::bigint, 0) + _each.jobs);
            IF jsonb_array_length(coalesce(_op.samples -> _each.verdict, '[]')) < 20 THEN
                _op.samples := _op.samples || jsonb_build_object(
                    _each.verdict, coalesce(_op.samples -> _each.verdict, '[]') || to_jsonb(_each.ids));
            END IF;
        END LOOP;
    END IF;

    UPDATE holdfast.bulk_operations AS o
    SET after_id = coalesce(_upto, o.after_id), looked = o.looked + _count, done = o.done + coalesce(cardinality(_ids), 0),
        verdicts = _op.verdicts, samples = _op.samples, changed_at = _now,
        status = CASE WHEN _upto IS NULL THEN 'done' ELSE 'running' END,
        finished_at = CASE WHEN _upto IS NULL THEN _now END
    WHERE o.id = _op.id
    RETURNING o.id, o.status INTO id, status;
    RETURN NEXT;
END
$function$;

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (17, '017_dashboard', '4573cc3af89bf8b2a033526f4f105e31fa47d88e5617f77bb3e66c0895b35d87');
END
$holdfast$;
