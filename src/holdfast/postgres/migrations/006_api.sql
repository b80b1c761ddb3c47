-- Holdfast migration 006_api
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 006_api.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 6) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- The keys of the HTTP API. A key is shown once, when it is made; kept is the SHA-256 of its secret, which is 256 bits
-- of chance: there is nothing in it to guess, so no slow hash is needed. `canary` keys are made by `holdfast verify`
-- for a few minutes, and are not counted where it is asked whether there are any keys.
CREATE TABLE IF NOT EXISTS holdfast.api_keys (
    id           text        COLLATE "C" NOT NULL PRIMARY KEY,
    name         text        NOT NULL,
    role         text        COLLATE "C" NOT NULL DEFAULT 'admin',
    secret_hash  text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_role CHECK (role IN ('viewer', 'submitter', 'operator', 'admin', 'canary'))
) WITH (fillfactor = 50);

-- What a caller's Idempotency-Key was answered with, for a day. `scope` is the caller: a key of one means nothing to
-- another. `request_hash` tells the same request from another one under the same key.
CREATE TABLE IF NOT EXISTS holdfast.idempotency_keys (
    scope        text        COLLATE "C" NOT NULL,
    key          text        COLLATE "C" NOT NULL,
    request_hash text        NOT NULL,
    answers      jsonb       NOT NULL DEFAULT '[]',
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX IF NOT EXISTS idempotency_keys_created ON holdfast.idempotency_keys (created_at);

-- Who is here: one row for each supervisor or single service (worker, API, monitor), written each few seconds, removed at a
-- clean end. Nothing of the protocol depends on it: it tells people what runs where, and with which settings.
-- `settings_hash` stands for what the settings files in `folder` said when the service started.
CREATE TABLE IF NOT EXISTS holdfast.services (
    id            uuid        NOT NULL PRIMARY KEY,
    name          text        COLLATE "C" NOT NULL,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    version       text        NOT NULL,
    folder        text        NOT NULL,
    settings_hash text        NOT NULL,
    address       text,
    bell_url      text,
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL
) WITH (fillfactor = 50);

-- enqueue_many for a caller that names its request (the header Idempotency-Key): the jobs and the name are written in
-- one transaction, so however often the request comes, also at the same moment, the jobs are written once and each gets
-- the same answer. Who comes while the first is under way waits for it at the primary key.
-- Raises HF002 when the name stands for another request. The other arguments are those of enqueue_many.
CREATE OR REPLACE FUNCTION holdfast.enqueue_once(
    scope text,
    key text,
    request_hash text,
    ids uuid[],
    queues text[],
    kinds text[],
    args jsonb[],
    priorities smallint[] DEFAULT NULL,
    run_ats timestamptz[] DEFAULT NULL,
    delays interval[] DEFAULT NULL,
    unique_keys text[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    limit_keys text[] DEFAULT NULL,
    policies integer[] DEFAULT NULL,
    traceparents text[] DEFAULT NULL,
    opts jsonb DEFAULT '{}'
) RETURNS TABLE (ord integer, id uuid, created boolean, replayed boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _known   record;
    _answers jsonb;
BEGIN
    INSERT INTO holdfast.idempotency_keys (scope, key, request_hash, created_at)
    VALUES (enqueue_once.scope, enqueue_once.key, enqueue_once.request_hash, holdfast.clock())
    ON CONFLICT (scope, key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT k.request_hash, k.answers INTO _known
        FROM holdfast.idempotency_keys k WHERE k.scope = enqueue_once.scope AND k.key = enqueue_once.key;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the idempotency key was forgotten at this moment' USING ERRCODE = '40001', HINT = 'Try again.';
        END IF;
        IF _known.request_hash <> enqueue_once.request_hash THEN
            RAISE EXCEPTION 'this idempotency key stands for another request' USING ERRCODE = 'HF002';
        END IF;
        RETURN QUERY
        SELECT a.ord::integer, (a.answer ->> 'id')::uuid, (a.answer ->> 'created')::boolean, true
        FROM jsonb_array_elements(_known.answers) WITH ORDINALITY AS a (answer, ord);
        RETURN;
    END IF;

    SELECT jsonb_agg(jsonb_build_object('id', e.id, 'created', e.created) ORDER BY e.ord)
    INTO _answers
    FROM holdfast.enqueue_many(enqueue_once.ids, enqueue_once.queues, enqueue_once.kinds, enqueue_once.args,
        enqueue_once.priorities, enqueue_once.run_ats, enqueue_once.delays, enqueue_once.unique_keys,
        enqueue_once.group_keys, enqueue_once.limit_keys, enqueue_once.policies, enqueue_once.traceparents,
        enqueue_once.opts) e;
    UPDATE holdfast.idempotency_keys AS k
    SET answers = coalesce(_answers, '[]')
    WHERE k.scope = enqueue_once.scope AND k.key = enqueue_once.key;
    RETURN QUERY
    SELECT a.ord::integer, (a.answer ->> 'id')::uuid, (a.answer ->> 'created')::boolean, false
    FROM jsonb_array_elements(_answers) WITH ORDINALITY AS a (answer, ord);
END
$function$;

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (6, '006_api', 'fd5463ff5cf647c4f3218c9433c83b0c6758ef3cb81d7edc1301c768b4009531');
END
$holdfast$;
