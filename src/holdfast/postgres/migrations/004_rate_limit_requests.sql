-- Holdfast migration 004_rate_limit_requests
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 004_rate_limit_requests.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 4) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- The rate limiter's counts: for each policy and identity one log of what was admitted, which serves all limits of the
-- policy: `stamps` (microseconds since 1970, the oldest first) and, beside each, the sum of all units admitted until
-- then; `base` is the sum before the first of them. `marks` has two numbers for each limit of another algorithm: when
-- its window began and the sum then (fixed), or until when it is paid for, and the parts of a microsecond (gcra).
-- `key` is a keyed hash: no address of anybody is kept. `place`, `granted` and `answer` are those of the last call: an
-- INSERT can return only what it stores. Only the primary key, so that a hit is one HOT update; logs stay in the row.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_requests (
    policy     text        COLLATE "C" NOT NULL,
    key        uuid        NOT NULL,
    base       bigint      NOT NULL,
    stamps     bigint[]    NOT NULL,
    sums       bigint[]    NOT NULL,
    marks      bigint[],
    refused    bigint      NOT NULL,
    place      integer     NOT NULL,
    granted    integer,
    answer     bigint[],
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (policy, key)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
ALTER TABLE holdfast.rate_limit_requests ENABLE ROW LEVEL SECURITY;

-- One row: the secret of the hashes, a number that grows whenever somebody changes what processes may have remembered
-- (a reset, a rule), and whether there are so many identities that new ones share places.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_state (
    one        boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    secret     bytea   NOT NULL,
    generation bigint  NOT NULL DEFAULT 1,
    is_full    boolean NOT NULL DEFAULT false
);
ALTER TABLE holdfast.rate_limit_state ENABLE ROW LEVEL SECURITY;
INSERT INTO holdfast.rate_limit_state (secret)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
ON CONFLICT DO NOTHING;

-- Rules that differ from what programs ask for: who is always admitted, who never, and who has other limits. An empty
-- `policy` is every policy; the key of zeros is every identity. Lists win over limits, and to block wins over to allow.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_rules (
    policy     text        COLLATE "C" NOT NULL,
    key        uuid        NOT NULL,
    verdict    text        NOT NULL CHECK (verdict IN ('allow', 'block', 'limit')),
    mosts      integer[],
    spans      bigint[],
    kinds      text[],
    bursts     integer[],
    until      timestamptz,
    note       text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (policy, key),
    CHECK (verdict <> 'limit' OR cardinality(mosts) > 0)
);
ALTER TABLE holdfast.rate_limit_rules ENABLE ROW LEVEL SECURITY;

-- The processes that limit: how many there are decides their shares while Postgres does not answer.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_instances (
    id      uuid        NOT NULL PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
ALTER TABLE holdfast.rate_limit_instances ENABLE ROW LEVEL SECURITY;

-- What was decided, over all processes and all time.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_totals (
    policy    text        COLLATE "C" NOT NULL,
    source    text        NOT NULL,
    outcome   text        NOT NULL,
    decisions bigint      NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (policy, source, outcome)
) WITH (fillfactor = 50);
ALTER TABLE holdfast.rate_limit_totals ENABLE ROW LEVEL SECURITY;

-- What an identity is called in the tables: a keyed hash, so that neither a copy of the counts nor a server's log
-- tells an address. Programs in Python make the same one themselves; the inner hash keeps anybody from extending it, and
-- keys of more than 200 characters are remembered by their hash there.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_key(identity text) RETURNS uuid
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(substr(sha256(s.secret || sha256(s.secret || convert_to(f.key, 'UTF8'))), 1, 16), 'hex')::uuid
    FROM holdfast.rate_limit_state s,
         (SELECT CASE WHEN char_length(identity) <= 200 THEN identity
                 ELSE encode(substr(sha256(sha256(convert_to(identity, 'UTF8'))), 1, 16), 'hex') END AS key) f
$function$;

-- Make a log shorter and its numbers smaller. To drop a pair from the middle of a log moves its units to the time of the
-- next pair, which is later, so they leave every window later: no thinning can admit too much. Pairs of exact limits (up
-- to 250 places) all stay; of others one stays for each sixtieth of the window. The youngest always stays. Stamps
-- that a clock set back has left in the future count from now on.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_thin(
    now_micro bigint, INOUT base bigint, INOUT stamps bigint[], INOUT sums bigint[],
    mosts integer[], spans bigint[], kinds text[], first integer, last integer
) LANGUAGE sql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH pairs AS (
        SELECT p.n, least(p.stamp, now_micro) AS stamp, lead(least(p.stamp, now_micro)) OVER (ORDER BY p.n) AS next, p.sum,
               (SELECT min(CASE WHEN l.most <= 250 THEN 0 ELSE l.span / 60 END)
                FROM unnest(mosts[first:last], spans[first:last], kinds[first:last]) AS l (most, span, kind)
                WHERE l.kind = 'log' AND l.span > now_micro - p.stamp) AS grain
        FROM unnest(stamps, sums) WITH ORDINALITY AS p (stamp, sum, n)
    )
    SELECT base, coalesce(array_agg(p.stamp ORDER BY p.n), '{}'), coalesce(array_agg(p.sum ORDER BY p.n), '{}')
    FROM pairs p
    WHERE p.next IS NULL OR coalesce(p.grain, 0) = 0 OR p.stamp / p.grain <> p.next / p.grain
$function$;

-- The rule: what becomes of one identity's counts when it asks for `wanted` requests of `cost` units each, under the
-- limits first to last of the arrays. As many whole requests are granted as every limit has room for; what is refused
-- costs nothing. `debt` are units that were admitted while Postgres did not answer: they are charged in any case.
--   log    never more than its limit in any window of its length (promise P9): a difference of two sums of the log
--   fixed  never more in one window, which begins with its first request
--   gcra   an even flow with bursts: `marks` holds until when the flow is paid for, in microseconds and parts of one;
--          of a debt, what is more than a burst and a window's worth is forgiven
-- A stamp is never older than the one before it, so waiting for a lock admits nobody too early. The answer: what was
-- granted, at which stamp, and for each limit what is left, and the microseconds until the same request fits and until all is free.
-- The same rule is in Python, for processes on their own (core/tally.py); one suite of tests holds both to one model.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_step(
    now_micro bigint, INOUT base bigint, INOUT stamps bigint[], INOUT sums bigint[], INOUT marks bigint[],
    mosts integer[], spans bigint[], kinds text[], bursts integer[], first integer, last integer,
    cost integer, wanted integer, debt integer, OUT granted integer, OUT answer bigint[], OUT idle_at bigint
) LANGUAGE plpgsql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _n      integer := cardinality(stamps);
    _total  bigint;
    _before bigint;
    _least  bigint := 2147483647;
    _room   bigint;
    _rooms  bigint[] := '{}';
    _need   integer := 64;
    _span   bigint := 0;
    _grain  bigint;
    _cut    integer;
    _wait   bigint;
    _reset  bigint;
    _mark   integer;
    _ahead  numeric;
BEGIN
    first := greatest(first, 1);
    last := least(last, coalesce(cardinality(mosts), 0));
    IF stamps[_n] > now_micro + 1000000 THEN
        SELECT t.base, t.stamps, t.sums INTO base, stamps, sums
        FROM holdfast.rate_limit_thin(now_micro, base, stamps, sums, mosts, spans, kinds, first, last) t;
        _n := cardinality(stamps);
    END IF;
    _before := CASE _n WHEN 0 THEN base ELSE sums[_n] END;
    _total := _before + debt;

    -- What each limit has room for.
    FOR _i IN first .. last LOOP
        IF kinds[_i] = 'log' THEN
            _span := greatest(_span, spans[_i]);
            _grain := least(_grain, CASE WHEN mosts[_i] <= 250 THEN 0 ELSE spans[_i] / 60 END);
            _need := _need + CASE WHEN mosts[_i] <= 250 THEN mosts[_i] ELSE 61 END;
            _cut := width_bucket(now_micro - spans[_i], stamps);
            _room := mosts[_i] - _total + CASE _cut WHEN 0 THEN base ELSE sums[_cut] END;
        ELSE
            _mark := 2 * (_i - first) + 1;
            marks := coalesce(marks, array_fill(NULL::bigint, ARRAY[2 * (last - first + 1)]));
            IF kinds[_i] = 'fixed' THEN
                IF marks[_mark] > now_micro + 1000000 THEN
                    marks[_mark] := now_micro;
                ELSIF marks[_mark] IS NULL OR marks[_mark] + spans[_i] <= now_micro THEN
                    marks[_mark] := NULL;
                    marks[_mark + 1] := _before;
                END IF;
                _room := mosts[_i] - _total + marks[_mark + 1];
            ELSE
                _ahead := (coalesce(marks[_mark], 0) - now_micro)::numeric * mosts[_i] + coalesce(marks[_mark + 1], 0);
                _ahead := least(greatest(_ahead, 0), (bursts[_i]::numeric + mosts[_i]) * spans[_i]);
                marks[_mark] := now_micro + div(_ahead, mosts[_i]);
                marks[_mark + 1] := mod(_ahead, mosts[_i]);
                _room := bursts[_i] - debt - ceil(_ahead / spans[_i]);
            END IF;
        END IF;
        _least := least(_least, _room);
        _rooms := _rooms || _room;
    END LOOP;

    -- Charge it.
    granted := least(wanted, greatest(_least, 0) / cost) * cost;
    _total := _total + granted;
    IF _span = 0 THEN
        base := _total;
        stamps := '{}';
        sums := '{}';
        _n := 0;
    ELSIF granted + debt > 0 THEN
        IF stamps[_n] / nullif(_grain, 0) = greatest(now_micro, stamps[_n]) / nullif(_grain, 0) THEN
            stamps[_n] := greatest(now_micro, stamps[_n]);
            sums[_n] := _total;
        ELSE
            stamps := stamps || greatest(now_micro, stamps[_n]);
            sums := sums || _total;
            _n := _n + 1;
        END IF;
    END IF;
    IF _n > 0 THEN
        _cut := width_bucket(now_micro - _span, stamps);
        IF _cut > 0 THEN
            base := sums[_cut];
            stamps := stamps[_cut + 1 :];
            sums := sums[_cut + 1 :];
            _n := _n - _cut;
        END IF;
        IF _n > _need THEN
            SELECT t.base, t.stamps, t.sums INTO base, stamps, sums
            FROM holdfast.rate_limit_thin(now_micro, base, stamps, sums, mosts, spans, kinds, first, last) t;
            _n := cardinality(stamps);
        END IF;
    END IF;

    -- How each limit stands now.
    answer := ARRAY[granted, CASE _n WHEN 0 THEN now_micro ELSE stamps[_n] END];
    idle_at := now_micro;
    FOR _i IN first .. last LOOP
        _room := _rooms[_i - first + 1] - granted;
        _wait := 0;
        IF kinds[_i] = 'log' THEN
            -- Whoever had the lock before may have a later time than ours, which was read before we waited.
            _reset := CASE WHEN _room < mosts[_i] THEN least(stamps[_n] - now_micro, 0) + spans[_i] ELSE 0 END;
            IF cost > _room THEN
                _wait := coalesce(least(stamps[width_bucket(_total + cost - mosts[_i] - 1, sums) + 1] - now_micro, 0), 0)
                    + spans[_i];
            END IF;
        ELSE
            _mark := 2 * (_i - first) + 1;
            IF kinds[_i] = 'fixed' THEN
                IF marks[_mark] IS NULL AND granted + debt > 0 THEN
                    marks[_mark] := now_micro;
                END IF;
                _reset := coalesce(marks[_mark] + spans[_i] - now_micro, 0);
                _wait := CASE WHEN cost > _room THEN _reset ELSE 0 END;
            ELSE
                _ahead := (marks[_mark] - now_micro)::numeric * mosts[_i] + marks[_mark + 1]
                    + (granted + debt)::numeric * spans[_i];
                _ahead := least(_ahead, (bursts[_i]::numeric + mosts[_i]) * spans[_i]);
                marks[_mark] := now_micro + div(_ahead, mosts[_i]);
                marks[_mark + 1] := mod(_ahead, mosts[_i]);
                _reset := ceil(_ahead / mosts[_i]);
                _wait := greatest(ceil((_ahead - (bursts[_i] - cost)::numeric * spans[_i]) / mosts[_i]), 0);
            END IF;
        END IF;
        answer := answer || ARRAY[greatest(_room, 0), _wait, _reset];
        idle_at := greatest(idle_at, now_micro + _reset);
    END LOOP;
END
$function$;

-- The rule that is in force for one identity under a policy, if any: to block wins over to allow, which wins over other
-- limits; among limits the rule that names both wins over one that names the identity, and that over the policy's.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_rule(policy_name text, identity uuid)
RETURNS SETOF holdfast.rate_limit_rules
LANGUAGE sql STABLE SECURITY INVOKER ROWS 1
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.*
    FROM holdfast.rate_limit_rules r
    WHERE r.policy IN (policy_name, '') AND r.key IN (identity, '00000000-0000-0000-0000-000000000000')
      AND (r.until IS NULL OR r.until > (SELECT holdfast.clock()))
    ORDER BY CASE r.verdict WHEN 'block' THEN 1 WHEN 'allow' THEN 2 ELSE 3 END,
             r.key = '00000000-0000-0000-0000-000000000000', r.policy = ''
    LIMIT 1
$function$;

-- Decide for many identities at once: one statement a round trip. Identity number `place` asks for wanted[place]
-- requests of costs[place] units under policy number which[place], whose limits are those from firsts to lasts of the
-- next four arrays; where an array is left out, it is 1 for everybody, and debts are 0. An identity may stand in one
-- call only once. The rule itself is rate_limit_step; rows are locked in the order of their keys; the clock is the
-- database's, read once.
-- A row that does not exist is written undecided and decided in a second round: to decide it in the first would cost
-- every existing row a second run of the rule.
-- With `durable` off the commit need not be on disk: after a crash of Postgres, what was granted in its last moments
-- (under a second) may be granted again. It stays off for the whole transaction, so only a limiter's own connection says so.
-- While there are too many identities, those without a row share 4096 rows, so that inventing them fills no disk.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_hits(
    policies text[], firsts integer[], lasts integer[], mosts integer[], spans bigint[], kinds text[], bursts integer[],
    keys uuid[], which integer[] DEFAULT NULL, costs integer[] DEFAULT NULL, wanted integer[] DEFAULT NULL,
    debts integer[] DEFAULT NULL, durable boolean DEFAULT true
) RETURNS TABLE (place integer, answer bigint[], verdict text, rule jsonb)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _micro bigint := (extract(epoch FROM _now) * 1000000)::bigint;
    _open  integer[];
    _later integer[] := '{}';
    _again integer[];
    _ruled boolean;
    _full  boolean;
    _given integer := cardinality(policies);
    _found record;
BEGIN
    IF NOT durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    _open := ARRAY(SELECT generate_series(1, cardinality(keys)));
    SELECT s.is_full, EXISTS (SELECT FROM holdfast.rate_limit_rules) INTO _full, _ruled FROM holdfast.rate_limit_state s;

    IF _ruled THEN
        which := coalesce(which, array_fill(1, ARRAY[cardinality(keys)]));
        FOR _found IN
            SELECT o.place, r.verdict, r.until, r.mosts, r.spans, r.kinds, r.bursts
            FROM unnest(_open) AS o (place), holdfast.rate_limit_rule(policies[which[o.place]], keys[o.place]) r
        LOOP
            IF _found.verdict = 'limit' THEN
                policies := policies || policies[which[_found.place]];
                which[_found.place] := cardinality(policies);
                firsts := firsts || cardinality(mosts) + 1;
                mosts := mosts || _found.mosts;
                spans := spans || _found.spans;
                kinds := kinds || _found.kinds;
                bursts := bursts || _found.bursts;
                lasts := lasts || cardinality(mosts);
            ELSE
                _open := array_remove(_open, _found.place);
                place := _found.place;
                verdict := _found.verdict;
                answer := ARRAY[
                    CASE verdict WHEN 'allow' THEN coalesce(wanted[place], 1)::bigint * coalesce(costs[place], 1) ELSE 0 END,
                    _micro,
                    (extract(epoch FROM _found.until - _now) * 1000000)::bigint];
                RETURN NEXT;
            END IF;
        END LOOP;
        verdict := NULL;
    END IF;

    IF _full THEN
        FOR _found IN
            SELECT o.place FROM unnest(_open) AS o (place)
            WHERE NOT EXISTS (SELECT FROM holdfast.rate_limit_requests r
                              WHERE r.policy = policies[coalesce(which[o.place], 1)] AND r.key = keys[o.place])
        LOOP
            keys[_found.place] := rpad(left(keys[_found.place]::text, 3), 32, '0')::uuid;
        END LOOP;
    END IF;

    WHILE cardinality(_open) > 0 LOOP
        _again := '{}';
        IF _full THEN
            _later := _open;
            _open := ARRAY(SELECT DISTINCT ON (policies[coalesce(which[o.place], 1)], keys[o.place]) o.place
                           FROM unnest(_open) AS o (place));
            _later := ARRAY(SELECT l.place FROM unnest(_later) AS l (place) WHERE l.place <> ALL (_open));
        END IF;
        FOR place, answer, rule IN
            INSERT INTO holdfast.rate_limit_requests AS r (policy, key, base, stamps, sums, refused, place, expires_at)
            SELECT policies[coalesce(which[o.place], 1)], keys[o.place], 0, '{}', '{}', 0, o.place, _now
            FROM unnest(_open) AS o (place)
            ORDER BY 1, 2
            ON CONFLICT (policy, key) DO UPDATE
            SET (base, stamps, sums, marks, refused, place, granted, answer, expires_at) = (
                SELECT (d.s).base, (d.s).stamps, (d.s).sums, (d.s).marks,
                       r.refused + coalesce(wanted[excluded.place], 1)
                           - (d.s).granted / coalesce(costs[excluded.place], 1),
                       excluded.place, (d.s).granted, (d.s).answer,
                       _now + make_interval(secs => ((d.s).idle_at - _micro) / 1e6)
                FROM (SELECT holdfast.rate_limit_step(
                          _micro, r.base, r.stamps, r.sums, r.marks, mosts, spans, kinds, bursts,
                          firsts[coalesce(which[excluded.place], 1)], lasts[coalesce(which[excluded.place], 1)],
                          coalesce(costs[excluded.place], 1), coalesce(wanted[excluded.place], 1),
                          coalesce(debts[excluded.place], 0)) AS s OFFSET 0) d)
            RETURNING r.place, r.answer, NULL::jsonb
        LOOP
            IF answer IS NULL THEN
                _again := _again || place;
                CONTINUE;
            END IF;
            IF which[place] > _given THEN
                rule := jsonb_build_array(
                    mosts[firsts[which[place]] : lasts[which[place]]], spans[firsts[which[place]] : lasts[which[place]]],
                    kinds[firsts[which[place]] : lasts[which[place]]], bursts[firsts[which[place]] : lasts[which[place]]]);
            END IF;
            RETURN NEXT;
        END LOOP;
        _open := _again || _later;
        _later := '{}';
    END LOOP;
END
$function$;

-- How one identity stands, as it would be answered now; changes nothing. For what the answer holds see rate_limit_hits.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_peek(
    policy_name text, identity uuid, mosts integer[], spans bigint[], kinds text[], bursts integer[], cost integer DEFAULT 1
) RETURNS TABLE (place integer, answer bigint[], verdict text, rule jsonb)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH now AS MATERIALIZED (
        SELECT n.at, (extract(epoch FROM n.at) * 1000000)::bigint AS micro FROM (SELECT holdfast.clock() AS at) n
    )
    SELECT 1,
           CASE WHEN u.verdict IN ('allow', 'block')
                THEN ARRAY[0, now.micro, (extract(epoch FROM u.until - now.at) * 1000000)::bigint]
                ELSE s.answer END,
           nullif(u.verdict, 'limit'),
           CASE u.verdict WHEN 'limit' THEN jsonb_build_array(u.mosts, u.spans, u.kinds, u.bursts) END
    FROM now
    LEFT JOIN holdfast.rate_limit_requests r ON r.policy = policy_name AND r.key = identity
    LEFT JOIN holdfast.rate_limit_rule(policy_name, identity) u ON true
    CROSS JOIN LATERAL holdfast.rate_limit_step(
        now.micro, coalesce(r.base, 0), coalesce(r.stamps, '{}'), coalesce(r.sums, '{}'), r.marks,
        coalesce(u.mosts, rate_limit_peek.mosts), coalesce(u.spans, rate_limit_peek.spans),
        coalesce(u.kinds, rate_limit_peek.kinds), coalesce(u.bursts, rate_limit_peek.bursts),
        1, cardinality(coalesce(u.mosts, rate_limit_peek.mosts)), cost, 0, 0) s
$function$;

-- Take back what one identity was granted at `granted_at` (the stamp of an answer), as if it had never been. Whether
-- there was anything to change.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_refund(
    policy_name text, identity uuid, granted_at bigint, cost integer,
    mosts integer[], spans bigint[], kinds text[], bursts integer[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _row   holdfast.rate_limit_requests;
    _floor bigint;
BEGIN
    SELECT r.* INTO _row FROM holdfast.rate_limit_requests r
    WHERE r.policy = policy_name AND r.key = identity FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT coalesce(max(p.sum) FILTER (WHERE p.stamp < granted_at), _row.base) INTO _floor
    FROM unnest(_row.stamps, _row.sums) AS p (stamp, sum);
    _row.sums := ARRAY(SELECT CASE WHEN p.stamp < granted_at THEN p.sum ELSE greatest(p.sum - cost, _floor) END
                       FROM unnest(_row.stamps, _row.sums) WITH ORDINALITY AS p (stamp, sum, n) ORDER BY p.n);
    IF cardinality(_row.stamps) = 0 THEN
        _row.base := _row.base - cost;
    END IF;
    FOR _i IN 1 .. coalesce(cardinality(_row.marks), 0) / 2 LOOP
        IF kinds[_i] = 'gcra' THEN
            _row.marks[2 * _i - 1] := _row.marks[2 * _i - 1] - floor(cost::double precision * spans[_i] / mosts[_i]);
        ELSIF kinds[_i] = 'fixed' AND _row.marks[2 * _i - 1] > granted_at THEN
            _row.marks[2 * _i] := _row.marks[2 * _i] - cost;
        END IF;
    END LOOP;
    UPDATE holdfast.rate_limit_requests r SET base = _row.base, sums = _row.sums, marks = _row.marks
    WHERE r.policy = policy_name AND r.key = identity;
    RETURN true;
END
$function$;

-- Put an identity on a list, or give it other limits, until then or for ever; verdict NULL takes a rule away. Processes
-- that remember otherwise learn of it with their next beat, within a second. Whether anything changed.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_set_rule(
    policy_name text, identity uuid, new_verdict text, lasts_for interval DEFAULT NULL, new_note text DEFAULT NULL,
    mosts integer[] DEFAULT NULL, spans bigint[] DEFAULT NULL, kinds text[] DEFAULT NULL, bursts integer[] DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _changed boolean := true;
BEGIN
    IF new_verdict IS NULL THEN
        DELETE FROM holdfast.rate_limit_rules r WHERE r.policy = policy_name AND r.key = identity;
        _changed := FOUND;
    ELSE
        INSERT INTO holdfast.rate_limit_rules AS r
            (policy, key, verdict, mosts, spans, kinds, bursts, until, note, created_at)
        VALUES (policy_name, identity, new_verdict, mosts, spans, kinds, bursts, holdfast.clock() + lasts_for, new_note,
                holdfast.clock())
        ON CONFLICT (policy, key) DO UPDATE
        SET verdict = excluded.verdict, mosts = excluded.mosts, spans = excluded.spans, kinds = excluded.kinds,
            bursts = excluded.bursts, until = excluded.until, note = excluded.note, created_at = excluded.created_at;
    END IF;
    UPDATE holdfast.rate_limit_state s SET generation = s.generation + 1;
    RETURN _changed;
END
$function$;

-- Forget what an identity was admitted, under one policy or (NULL) all of them; how many counts that were.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_reset(identity uuid, policy_name text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _gone bigint;
BEGIN
    DELETE FROM holdfast.rate_limit_requests r
    WHERE r.key = identity AND (r.policy = policy_name OR policy_name IS NULL);
    GET DIAGNOSTICS _gone = ROW_COUNT;
    UPDATE holdfast.rate_limit_state s SET generation = s.generation + 1;
    RETURN _gone;
END
$function$;

-- A limiting process's sign of life, each second: what it has to tell, and what it must know. It tells what was decided
-- since the last beat (`decisions` of each policy, source and outcome) and how often it refused identities by itself;
-- it learns the secret of the hashes, the generation (when that has grown, it forgets what it remembers), and how many
-- processes live, itself included. Whether there are too many identities is looked at here: the planner's count of rows,
-- which costs nothing, is a second late.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_beat(
    instance uuid, policies text[] DEFAULT '{}', sources text[] DEFAULT '{}', outcomes text[] DEFAULT '{}',
    decisions bigint[] DEFAULT '{}', refused_policies text[] DEFAULT '{}', refused_keys uuid[] DEFAULT '{}',
    refusals bigint[] DEFAULT '{}', max_identities bigint DEFAULT 2000000
) RETURNS TABLE (secret bytea, generation bigint, instances integer, is_full boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now  timestamptz := holdfast.clock();
    _full boolean := pg_stat_get_live_tuples('holdfast.rate_limit_requests'::regclass) >= max_identities;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO holdfast.rate_limit_instances AS i (id, seen_at) VALUES (instance, _now)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at;
    DELETE FROM holdfast.rate_limit_instances i WHERE i.seen_at < _now - interval '1 minute';

    INSERT INTO holdfast.rate_limit_totals AS t (policy, source, outcome, decisions, last_at)
    SELECT a.policy, a.source, a.outcome, a.decisions, _now
    FROM unnest(policies, sources, outcomes, decisions) AS a (policy, source, outcome, decisions)
    ORDER BY 1, 2, 3
    ON CONFLICT (policy, source, outcome) DO UPDATE
    SET decisions = t.decisions + excluded.decisions, last_at = excluded.last_at;

    UPDATE holdfast.rate_limit_requests r SET refused = r.refused + l.refusals
    FROM (SELECT q.policy, q.key, a.refusals
          FROM unnest(refused_policies, refused_keys, refusals) AS a (policy, key, refusals)
          JOIN holdfast.rate_limit_requests q ON q.policy = a.policy AND q.key = a.key
          ORDER BY q.policy, q.key FOR UPDATE OF q SKIP LOCKED) l
    WHERE r.policy = l.policy AND r.key = l.key;

    UPDATE holdfast.rate_limit_state s SET is_full = _full WHERE s.is_full <> _full;
    RETURN QUERY
    SELECT s.secret, s.generation,
           (SELECT count(*)::integer FROM holdfast.rate_limit_instances i WHERE i.seen_at > _now - interval '10 s'), _full
    FROM holdfast.rate_limit_state s;
END
$function$;

-- A limiting process ends: its share goes to the others.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_leave(instance uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM holdfast.rate_limit_instances i WHERE i.id = instance
$function$;

-- Forget identities whose windows have passed, and rules that have run out, in one bounded step: so many pages of the
-- table from one page on. There is no index on when they pass: it would cost every hit.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_prune(from_page bigint DEFAULT 0, pages integer DEFAULT 2000) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _gone bigint;
BEGIN
    DELETE FROM holdfast.rate_limit_rules r WHERE from_page = 0 AND r.until < _now;
    WITH old AS (
        SELECT r.policy, r.key FROM holdfast.rate_limit_requests r
        WHERE r.ctid >= format('(%s,0)', from_page)::tid AND r.ctid < format('(%s,0)', from_page + pages)::tid
          AND r.expires_at < _now
        ORDER BY r.policy, r.key FOR UPDATE SKIP LOCKED
    )
    DELETE FROM holdfast.rate_limit_requests r USING old WHERE r.policy = old.policy AND r.key = old.key;
    GET DIAGNOSTICS _gone = ROW_COUNT;
    RETURN _gone;
END
$function$;

-- The rate limit for every other language: ask for one request of `key` (a user, an address) to be admitted, at most
-- `max_requests` in any window of so many seconds, over all callers of any language.
--     SELECT allowed, retry_after FROM holdfast.check_rate_limit('user:42', 100, 60);
-- The count is shared with Python's limiter where the policy's name is the same; by default both call it by its numbers.
-- Call it outside the transaction of the work itself: the identity's row is locked until the commit, and a rollback takes
-- the count back. Returns what is left, and seconds until the same request fits and until all of it is free again.
CREATE OR REPLACE FUNCTION holdfast.check_rate_limit(
    key text, max_requests integer, window_seconds double precision DEFAULT 60, cost integer DEFAULT 1,
    policy text DEFAULT NULL
) RETURNS TABLE (allowed boolean, "limit" integer, remaining integer, retry_after double precision,
                 reset_after double precision)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    _name   text := coalesce(policy, max_requests || ';w=' || trim_scale(round(window_seconds::numeric, 6)));
    _answer record;
BEGIN
    IF key IS NULL OR max_requests IS NULL OR NOT max_requests BETWEEN 1 AND 1000000000
       OR window_seconds IS NULL OR NOT window_seconds BETWEEN 0.001 AND 2678400
       OR cost IS NULL OR NOT cost BETWEEN 1 AND max_requests THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format(
            'check_rate_limit(key %L, max_requests %s, window_seconds %s, cost %s): max_requests must be from 1 to'
            ' 1000000000, the window from a millisecond to 31 days, the cost from 1 to max_requests',
            left(key, 60), max_requests, window_seconds, cost);
    END IF;
    SELECT h.* INTO _answer
    FROM holdfast.rate_limit_hits(
        ARRAY[_name], ARRAY[1], ARRAY[1], ARRAY[max_requests], ARRAY[(window_seconds * 1000000)::bigint], ARRAY['log'],
        ARRAY[0], ARRAY[holdfast.rate_limit_key(key)], costs => ARRAY[cost]) h;
    "limit" := coalesce((_answer.rule -> 0 ->> 0)::integer, max_requests);
    IF _answer.verdict IS NULL THEN
        allowed := _answer.answer[1] >= cost;
        remaining := _answer.answer[3];
        retry_after := CASE WHEN allowed THEN 0 ELSE _answer.answer[4] / 1e6 END;
        reset_after := _answer.answer[5] / 1e6;
    ELSE
        allowed := _answer.verdict = 'allow';
        remaining := CASE WHEN allowed THEN max_requests ELSE 0 END;
        retry_after := CASE WHEN allowed THEN 0 ELSE coalesce(_answer.answer[3] / 1e6, window_seconds) END;
        reset_after := retry_after;
    END IF;
    RETURN NEXT;
END
$function$;

-- An address as the identity of whoever has it: IPv4 that is written as IPv6 (mapped, NAT64) unfolded, other IPv6 by its
-- /64, since one customer has all of that; what is no address is `unknown`.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_address(written text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _address inet;
BEGIN
    _address := host(written::inet)::inet;
    IF _address IS NULL THEN
        RETURN 'unknown';
    ELSIF family(_address) = 4 THEN
        RETURN host(_address);
    ELSIF _address <<= '::ffff:0:0/96' THEN
        RETURN host('0.0.0.0'::inet + (_address - '::ffff:0:0'::inet));
    ELSIF _address <<= '64:ff9b::/96' THEN
        RETURN host('0.0.0.0'::inet + (_address - '64:ff9b::'::inet));
    END IF;
    RETURN network(set_masklen(_address, 64))::text;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'unknown';
END
$function$;

-- Limits the requests that PostgREST (and so Supabase's REST API) serves, as its pre-request function; the count is
-- shared with programs that limit under the same policy. See docs/rate-limits.md for how to switch it on.
-- Who asks: the subject of the JWT as user:SUBJECT, else the rightmost address of X-Forwarded-For that no proxy of ours
-- wrote (`holdfast.rate_limit_hops` proxies stand in front, 1 by default), IPv4 in IPv6 unfolded, IPv6 by its /64.
-- PostgREST runs GET and HEAD in transactions that may not write: they are refused while the identity's limit is used up
-- or it is blocked, and cannot be counted. A refusal rolls back, and so costs nothing.
-- Settings: holdfast.rate_limit_requests (100), holdfast.rate_limit_window (60 seconds), holdfast.rate_limit_policy.
CREATE OR REPLACE FUNCTION holdfast.postgrest_rate_limit() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _max     integer := coalesce(nullif(current_setting('holdfast.rate_limit_requests', true), ''), '100')::integer;
    _window  double precision := coalesce(nullif(current_setting('holdfast.rate_limit_window', true), ''), '60')::double precision;
    _policy  text := coalesce(nullif(current_setting('holdfast.rate_limit_policy', true), ''), 'default');
    _hops    integer := coalesce(nullif(current_setting('holdfast.rate_limit_hops', true), ''), '1')::integer;
    _claims  jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    _headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    _chain   text[] := string_to_array(replace(_headers ->> 'x-forwarded-for', ' ', ''), ',');
    _who     text := 'user:' || (_claims ->> 'sub');
    _found   record;
BEGIN
    IF _who IS NULL THEN
        _who := holdfast.rate_limit_address(_chain[greatest(cardinality(_chain) - _hops + 1, 1)]);
    END IF;
    IF current_setting('transaction_read_only') = 'on' THEN
        SELECT coalesce(p.verdict = 'allow', p.answer[3] >= 1) AS allowed,
               coalesce(p.answer[CASE WHEN p.verdict IS NULL THEN 4 ELSE 3 END] / 1e6, _window) AS retry_after INTO _found
        FROM holdfast.rate_limit_peek(
            _policy, holdfast.rate_limit_key(_who), ARRAY[_max], ARRAY[(_window * 1000000)::bigint], ARRAY['log'], ARRAY[0]) p;
    ELSE
        SELECT c.allowed, c.retry_after INTO _found FROM holdfast.check_rate_limit(_who, _max, _window, 1, _policy) c;
    END IF;
    IF NOT _found.allowed THEN
        RAISE EXCEPTION USING ERRCODE = 'PGRST',
            MESSAGE = json_build_object(
                'code', 'quota-exceeded', 'message', 'Too many requests',
                'details', format('%s requests in %s s are admitted', _max, _window), 'hint', NULL)::text,
            DETAIL = json_build_object('status', 429, 'status_text', 'Too Many Requests', 'headers', json_build_object(
                'Retry-After', greatest(ceil(_found.retry_after), 1)::text,
                'RateLimit-Policy', format('"%s";q=%s;w=%s', _policy, _max, _window),
                'RateLimit', format('"%s";r=0;t=%s', _policy, greatest(ceil(_found.retry_after), 1))))::text;
    END IF;
END
$function$;

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (4, '004_rate_limit_requests', '0e7b9f9aaa0d8c3eaa59f6f84830eede25f9fe06dd955ebb41f81170c09b6860');
END
$holdfast$;
