-- Holdfast migration 019_watches
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 019_watches.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 19) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Tables of other programs that are watched ([[watch]] in holdfast.toml): when somebody looked last, and what came of it. One that
-- nobody has looked at for a day is nobody's any more: it was taken out of the settings.
CREATE TABLE IF NOT EXISTS holdfast.watches (
    name          text        COLLATE "C" NOT NULL PRIMARY KEY,
    table_name    text        NOT NULL,
    action        text        COLLATE "C" NOT NULL,
    stale_after   interval    NOT NULL,
    every         interval    NOT NULL,
    looked_at     timestamptz,
    stale         bigint      NOT NULL DEFAULT 0,
    rescued       bigint      NOT NULL DEFAULT 0,
    given_up      bigint      NOT NULL DEFAULT 0,
    problem_since timestamptz,
    problem       text,
    advice        text
) WITH (fillfactor = 50);

-- What was done to which row, and the message that is still to be sent for it (queue_url, without sent_at): written in the
-- statement that changed the row's status, so that neither is there without the other. Kept for 7 days, and until it is sent.
-- `due_at` is when it is sent next; whoever sends moves it on first, so that two rarely send the same.
CREATE TABLE IF NOT EXISTS holdfast.watch_rescues (
    id           uuid        NOT NULL PRIMARY KEY,
    watch        text        COLLATE "C" NOT NULL,
    row_id       text        COLLATE "C" NOT NULL,
    from_status  text        NOT NULL,
    to_status    text        NOT NULL,
    is_final     boolean     NOT NULL,
    silent_since timestamptz,
    rescued_at   timestamptz NOT NULL,
    queue_url    text,
    entry        jsonb,
    due_at       timestamptz,
    attempts     integer     NOT NULL DEFAULT 0,
    sent_at      timestamptz,
    error        text
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS watch_rescues_row ON holdfast.watch_rescues (watch, row_id, rescued_at);
CREATE INDEX IF NOT EXISTS watch_rescues_at ON holdfast.watch_rescues (rescued_at);
CREATE INDEX IF NOT EXISTS watch_rescues_due ON holdfast.watch_rescues (due_at) WHERE queue_url IS NOT NULL AND sent_at IS NULL;

-- The query that finds the stale rows of a watched table, as text: its rows with a running status whose heartbeat is older than
-- stale_after, or, without one, whose `since` is; but for those that were rescued within that time. Names are quoted as names and
-- values as values of their column's type, so that the planner can hold them against a partial index. `spec` is what examine_watch
-- found nothing wrong with.
CREATE OR REPLACE FUNCTION holdfast.watched_rows(spec jsonb) RETURNS text
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _columns text;
    _types   jsonb;
    _cutoff  text := format('((SELECT holdfast.clock()) - %L::interval)', (spec ->> 'stale_after') || ' seconds');
    _zone    text := coalesce(spec ->> 'time_zone', 'UTC');
    _silent  text[];
    _since   text[];
BEGIN
    SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, -1)) INTO _types
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = spec ->> 'schema' AND c.relname = spec ->> 'table' AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT coalesce(_types ?& array_remove(ARRAY[spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat', spec ->> 'since'], NULL), false) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format(
            'table %I.%I is not there any more, or lacks columns; see: holdfast watch check', spec ->> 'schema', spec ->> 'table');
    END IF;
    -- The payload is told as its text: JSON that is read and written again has other numbers (1.10, more than 15 digits).
    SELECT string_agg(format(CASE x WHEN spec ->> 'payload' THEN '%L, t.%I::text' ELSE '%L, t.%I' END, x, x), ', ') INTO _columns FROM jsonb_array_elements_text(spec -> 'columns') AS x;
    -- A timestamp without time zone is one of the table's own time zone.
    _silent := ARRAY(
        SELECT CASE WHEN _types ->> x.name = 'timestamp without time zone' THEN format('t.%I AT TIME ZONE %L', x.name, _zone)
                    ELSE format('t.%I', x.name) END
        FROM unnest(ARRAY[spec ->> 'heartbeat', spec ->> 'since']) WITH ORDINALITY AS x (name, place)
        WHERE x.name IS NOT NULL ORDER BY x.place);
    _since := ARRAY(
        SELECT CASE WHEN _types ->> x.name = 'timestamp without time zone' THEN format('t.%I < %s AT TIME ZONE %L', x.name, _cutoff, _zone)
                    ELSE format('t.%I < %s', x.name, _cutoff) END
        FROM unnest(ARRAY[spec ->> 'heartbeat', spec ->> 'since']) WITH ORDINALITY AS x (name, place)
        WHERE x.name IS NOT NULL ORDER BY x.place);
    RETURN format(
        'SELECT t.%1$I::text AS row_id, t.%2$I::text AS status, t.%3$I::text AS heartbeat, coalesce(%4$s) AS silent_since,'
        ' %5$s AS columns FROM %6$I.%7$I AS t WHERE t.%2$I = ANY (%8$L::%9$s[]) AND (%10$s)'
        ' AND NOT EXISTS (SELECT FROM holdfast.watch_rescues r WHERE r.watch = %11$L AND r.row_id = t.%1$I::text'
        ' AND r.rescued_at > %12$s)',
        spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat', array_to_string(_silent, ', '),
        CASE WHEN _columns IS NULL THEN '''{}''::jsonb' ELSE format('jsonb_build_object(%s)', _columns) END,
        spec ->> 'schema', spec ->> 'table',
        ARRAY(SELECT jsonb_array_elements_text(spec -> 'running'))::text, _types ->> (spec ->> 'status'),
        _since[1] || CASE WHEN _since[2] IS NULL THEN ''
                          ELSE format(' OR t.%I IS NULL AND %s', spec ->> 'heartbeat', _since[2]) END,
        spec ->> 'name', _cutoff);
END
$function$;

-- What is wrong with a watched table as it is described: `level` error (it cannot be looked at), warn (it costs too much), note.
-- Whether an index serves is asked of the planner itself, with sequential scans forbidden: it must lead to the rows by their
-- status, since the rows that run are few and those that are silent are all of the past.
CREATE OR REPLACE FUNCTION holdfast.examine_watch(spec jsonb) RETURNS TABLE (level text, problem text, advice text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _name   text := format('%I.%I', spec ->> 'schema', spec ->> 'table');
    _table  record;
    _each   record;
    _values text[] := ARRAY(SELECT jsonb_array_elements_text(spec -> 'running'))
                      || array_remove(ARRAY[spec ->> 'queued', spec ->> 'failed'], NULL);
    _plan   json;
    _bad    boolean := false;
    _value  text;
    _fits   boolean;
    _epoch  timestamptz := 'epoch';
BEGIN
    SELECT c.oid, c.relkind, c.reltuples, n.nspname INTO _table
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = spec ->> 'schema' AND c.relname = spec ->> 'table';
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'error', format('there is no table %s', _name), 'name it as schema.table; see: holdfast watch discover';
        RETURN;
    ELSIF _table.relkind NOT IN ('r', 'p', 'v', 'm') OR _table.nspname IN ('holdfast', 'pg_catalog') THEN
        RETURN QUERY SELECT 'error', format('%s is no table of yours', _name), 'name one of your own tables or views';
        RETURN;
    ELSIF _table.relkind IN ('v', 'm') AND spec ->> 'action' <> 'alert' THEN
        RETURN QUERY SELECT 'error', format('%s is a view', _name), 'of a view people can only be told: action = "alert"';
        RETURN;
    END IF;

    FOR _each IN
        SELECT x.role, x.name, a.attnum, t.typcategory, t.typtype, format_type(a.atttypid, -1) AS type, a.atttypid,
               coalesce(nullif(t.typbasetype, 0), t.oid)::regtype::text AS base
        FROM (VALUES ('id', spec ->> 'id'), ('status', spec ->> 'status'), ('heartbeat', spec ->> 'heartbeat'),
                     ('since', spec ->> 'since')) AS x (role, name)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = _table.oid AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE x.name IS NOT NULL
        UNION ALL
        SELECT 'message', x, a.attnum, NULL, NULL, NULL, NULL, NULL
        FROM jsonb_array_elements_text(spec -> 'columns') AS x
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = _table.oid AND a.attname = x AND a.attnum > 0 AND NOT a.attisdropped
    LOOP
        IF _each.role = 'status' AND _each.attnum IS NOT NULL AND spec ->> 'action' <> 'alert'
           AND NOT has_column_privilege(_table.oid, _each.name, 'UPDATE') THEN
            _bad := true;
            RETURN QUERY SELECT 'error', format('%s may not write %s (%I)', current_user, _name, _each.name),
                format('GRANT UPDATE (%I) ON %s TO %I', _each.name, _name, current_user);
        END IF;
        IF _each.attnum IS NULL THEN
            _bad := true;
            RETURN QUERY SELECT 'error', format('%s has no column %I (%s)', _name, _each.name, _each.role),
                'it has ' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = _table.oid AND a.attnum > 0 AND NOT a.attisdropped);
        ELSIF NOT has_column_privilege(_table.oid, _each.name, 'SELECT') THEN
            _bad := true;
            RETURN QUERY SELECT 'error', format('%s may not read %s (%I)', current_user, _name, _each.name),
                format('GRANT SELECT (%I) ON %s TO %I', _each.name, _name, current_user);
        ELSIF _each.role IN ('heartbeat', 'since')
              AND _each.base NOT IN ('timestamp with time zone', 'timestamp without time zone') THEN
            _bad := true;
            RETURN QUERY SELECT 'error', format('%s.%I (%s) is of type %s', _name, _each.name, _each.role, _each.type),
                'it must be timestamp with time zone, or without one';
        ELSIF _each.role = 'id' AND spec ->> 'action' <> 'alert' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = _table.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1
              AND i.indkey[0] = _each.attnum) THEN
            _bad := true;
            RETURN QUERY SELECT 'error', format('%s.%I (id) is not unique by itself', _name, _each.name),
                'name the column of the primary key, or of a unique index on one column; without one people can be told: action = "alert"';
        ELSIF _each.role = 'status' THEN
            IF NOT (_each.typcategory IN ('S', 'E') OR _each.base IN ('smallint', 'integer', 'bigint')) THEN
                _bad := true;
                RETURN QUERY SELECT 'error', format('%s.%I (status) is of type %s', _name, _each.name, _each.type),
                    'it must be text, an enum, or a whole number';
            ELSIF _each.typtype = 'e' AND EXISTS (SELECT unnest(_values) EXCEPT SELECT e.enumlabel FROM pg_catalog.pg_enum e
                                                   WHERE e.enumtypid = _each.atttypid) THEN
                _bad := true;
                RETURN QUERY SELECT 'error', format('%L is no value of the enum %s', x.v, _each.type),
                    'it has ' || (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
                                  WHERE e.enumtypid = _each.atttypid)
                FROM unnest(_values) AS x (v)
                WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_enum e WHERE e.enumtypid = _each.atttypid AND e.enumlabel = x.v);
            ELSIF _each.base IN ('smallint', 'integer', 'bigint') AND EXISTS (
                SELECT FROM unnest(_values) AS x (v) WHERE x.v !~ '^-?[0-9]{1,9}$') THEN
                _bad := true;
                RETURN QUERY SELECT 'error', format('%L is no value of %s.%I, which is of type %s', x.v, _name, _each.name, _each.type),
                    'give whole numbers for running, queued and failed'
                FROM unnest(_values) AS x (v) WHERE x.v !~ '^-?[0-9]{1,9}$';
            END IF;
        END IF;
    END LOOP;

    -- What a rescue would write is held against the status's own checks; a check that fails for another reason tells by itself then.
    IF NOT _bad AND spec ->> 'action' <> 'alert' THEN
        FOR _each IN
            SELECT k.conname, pg_get_expr(k.conbin, k.conrelid) AS rule, a.attname, format_type(a.atttypid, -1) AS type
            FROM pg_catalog.pg_constraint k
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
            WHERE k.conrelid = _table.oid AND k.contype = 'c' AND a.attname = spec ->> 'status'
        LOOP
            FOREACH _value IN ARRAY array_remove(ARRAY[spec ->> 'queued', spec ->> 'failed'], NULL) LOOP
                EXECUTE format('SELECT %s FROM (SELECT %L::%s AS %I) AS %I', _each.rule, _value, _each.type, _each.attname,
                               spec ->> 'table') INTO _fits;
                IF NOT _fits THEN
                    _bad := true;
                    RETURN QUERY SELECT 'error', format('%L is refused by the constraint %I of %s', _value, _each.conname, _name),
                        'it demands: ' || _each.rule;
                END IF;
            END LOOP;
        END LOOP;
    END IF;
    BEGIN
        -- Asked by a try: to read pg_timezone_names takes half a second.
        PERFORM _epoch AT TIME ZONE coalesce(spec ->> 'time_zone', 'UTC');
    EXCEPTION WHEN invalid_parameter_value THEN
        _bad := true;
        RETURN QUERY SELECT 'error', format('%L is no time zone that Postgres knows', spec ->> 'time_zone'), 'for example Europe/Berlin';
    END;
    -- A policy of `true` hides nothing, as long as no restrictive one is there as well; of any other it cannot be known.
    IF row_security_active(_table.oid) AND EXISTS (
        SELECT FROM unnest(CASE WHEN spec ->> 'action' = 'alert' THEN '{r}'::"char"[] ELSE '{r,w}'::"char"[] END) AS x (command)
        WHERE NOT coalesce((
            SELECT bool_or(o.is_open) FILTER (WHERE p.polpermissive) AND coalesce(bool_and(o.is_open) FILTER (WHERE NOT p.polpermissive), true)
            FROM pg_catalog.pg_policy p
            CROSS JOIN LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) = 'true'
                                       AND (x.command = 'r' OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')) AS o (is_open)
            WHERE p.polrelid = _table.oid AND p.polcmd IN ('*', x.command)
              AND EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE CASE r WHEN 0 THEN true ELSE pg_has_role(r, 'USAGE') END)), false)) THEN
        _bad := true;
        RETURN QUERY SELECT 'error', format('row level security hides rows of %s from %s', _name, current_user),
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = _table.oid AND p.polname = 'holdfast_watch')
                 THEN format('its policies restrict %I as well; ALTER ROLE %I BYPASSRLS', current_user, current_user)
                 ELSE format('CREATE POLICY holdfast_watch ON %s TO %I USING (true) WITH CHECK (true)', _name, current_user) END;
    END IF;
    IF _bad OR _table.relkind IN ('v', 'm') THEN -- what a view costs is its own matter
        RETURN;
    END IF;

    EXECUTE 'EXPLAIN (FORMAT JSON) ' || holdfast.watched_rows(spec) INTO _plan;
    IF NOT EXISTS (
        SELECT FROM jsonb_path_query(_plan::jsonb, 'strict $.**') AS node
        JOIN pg_catalog.pg_class x ON x.relname = node ->> 'Index Name'
        JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
        WHERE jsonb_typeof(node) = 'object' AND (i.indrelid = _table.oid OR _table.relkind = 'p')
          AND strpos(coalesce(node ->> 'Index Cond', '') || ' ' || coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
                     quote_ident(spec ->> 'status')) > 0) THEN
        RETURN QUERY SELECT 'warn',
            format('no index of %s leads to its running rows: each look reads the whole table (about %s rows)', _name,
                   greatest(_table.reltuples, 0)::bigint),
            format('CREATE INDEX %s%I ON %s (%I) WHERE %I = ANY (%L)',
                   CASE _table.relkind WHEN 'r' THEN 'CONCURRENTLY ' ELSE '' END, left(spec ->> 'table', 50) || '_running', _name,
                   spec ->> 'id', spec ->> 'status',
                   ARRAY(SELECT jsonb_array_elements_text(spec -> 'running'))::text);
    END IF;
    IF spec ->> 'action' <> 'alert' THEN
        RETURN QUERY
        SELECT 'note', format('trigger %I of %s runs when a row is rescued', g.tgname, _name), 'it must bear that'
        FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = _table.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0;
    END IF;
END
$function$;

-- The stale rows of a watched table, the longest silent first. `heartbeat` and `status` are what was read, for the
-- compare-and-set of rescue_watched; `earlier`: how often the row was rescued within the days that this is kept. A time that no
-- calendar has (-infinity, before the year 1) is told as none.
CREATE OR REPLACE FUNCTION holdfast.find_watched(spec jsonb, max_rows integer)
RETURNS TABLE (row_id text, status text, heartbeat text, silent_since timestamptz, columns jsonb, earlier bigint)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $function$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT f.row_id, f.status, f.heartbeat, CASE WHEN f.silent_since > ''0001-01-03'' THEN f.silent_since END, f.columns, (SELECT count(*) FROM holdfast.watch_rescues r WHERE r.watch = $1 AND r.row_id = f.row_id)'
        ' FROM (%s ORDER BY 4 LIMIT $2) f ORDER BY f.silent_since', holdfast.watched_rows(spec))
    USING spec ->> 'name', max_rows;
END
$function$;

-- Take stale rows of a watched table back: their status, and nothing else of them, is changed where status and heartbeat are still
-- what was read; what was done, and the message to send, is written in the same statement. A row that somebody holds locked is
-- being worked at, and left; so is one that another look took back meanwhile: whoever claimed it since, without a heartbeat, has
-- its time. `rescues`: [{id, row_id, status, heartbeat, silent_since, to_status, is_final, queue_url, entry}].
-- Returns those that were carried out, and those that the table `refused` (a constraint, a trigger), with the reason. A batch in
-- which one is refused is halved until that is alone: it stops no other. Of reasons only those are told that hold no values.
CREATE OR REPLACE FUNCTION holdfast.rescue_watched(spec jsonb, rescues jsonb) RETURNS TABLE (id uuid, refused text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $function$
DECLARE
    _types jsonb;
    _done  uuid[];
    _half  integer := jsonb_array_length(rescues) / 2;
    _why   text;
BEGIN
    SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, -1)) INTO _types
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = spec ->> 'schema' AND c.relname = spec ->> 'table' AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT coalesce(_types ?& ARRAY[spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat'], false) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format(
            'table %I.%I is not there any more, or lacks columns; see: holdfast watch check', spec ->> 'schema', spec ->> 'table');
    END IF;
    EXECUTE format(
        $query$
        WITH wanted AS MATERIALIZED (
            SELECT w.* FROM jsonb_to_recordset($1) AS w (id uuid, row_id text, status text, heartbeat text,
                silent_since timestamptz, to_status text, is_final boolean, queue_url text, entry jsonb)
        ), held AS MATERIALIZED (
            SELECT t.%1$I AS key, w.id, w.to_status
            FROM wanted w JOIN %2$I.%3$I AS t ON t.%1$I = w.row_id::%4$s
            WHERE t.%5$I = w.status::%6$s AND t.%7$I IS NOT DISTINCT FROM w.heartbeat::%8$s
              AND NOT EXISTS (SELECT FROM holdfast.watch_rescues r
                              WHERE r.watch = $2 AND r.row_id = w.row_id AND r.rescued_at > (SELECT holdfast.clock()) - $3)
            ORDER BY t.%1$I
            FOR UPDATE OF t SKIP LOCKED
        ), changed AS (
            UPDATE %2$I.%3$I AS t SET %5$I = h.to_status::%6$s
            FROM held h
            WHERE t.%1$I = h.key
            RETURNING h.id
        ), written AS (
            INSERT INTO holdfast.watch_rescues (id, watch, row_id, from_status, to_status, is_final, silent_since, rescued_at,
                queue_url, entry, due_at)
            SELECT w.id, $2, w.row_id, w.status, w.to_status, w.is_final, w.silent_since, (SELECT holdfast.clock()), w.queue_url,
                   w.entry, (SELECT holdfast.clock())
            FROM wanted w JOIN changed c ON c.id = w.id
            RETURNING id
        )
        SELECT array_agg(id) FROM written
        $query$,
        spec ->> 'id', spec ->> 'schema', spec ->> 'table', _types ->> (spec ->> 'id'), spec ->> 'status',
        _types ->> (spec ->> 'status'), spec ->> 'heartbeat', _types ->> (spec ->> 'heartbeat'))
    INTO _done USING rescues, spec ->> 'name', make_interval(secs => (spec ->> 'stale_after')::float8);
    RETURN QUERY SELECT d, NULL::text FROM unnest(_done) AS d;
EXCEPTION WHEN integrity_constraint_violation OR data_exception OR raise_exception OR insufficient_privilege THEN
    IF _half = 0 THEN
        GET STACKED DIAGNOSTICS _why = MESSAGE_TEXT;
        RETURN QUERY SELECT (rescues -> 0 ->> 'id')::uuid,
            CASE WHEN left(SQLSTATE, 2) IN ('23', '42') THEN _why ELSE format('error %s of a type or a trigger', SQLSTATE) END;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT r.* FROM (
        SELECT jsonb_agg(x.each) FROM jsonb_array_elements(rescues) WITH ORDINALITY AS x (each, place) GROUP BY x.place <= _half
    ) AS h (part) CROSS JOIN LATERAL holdfast.rescue_watched(spec, h.part) AS r;
END
$function$;

-- Which of these watched tables is it this process's turn to look at? Of all processes one wins in each interval, for each table by
-- itself. `watches`: [{name, table_name, action, stale_after, every}], times in seconds. A stamp from the future is one of a clock
-- that was set back.
CREATE OR REPLACE FUNCTION holdfast.begin_watches(watches jsonb) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    INSERT INTO holdfast.watches AS k (name, table_name, action, stale_after, every)
    SELECT w.name, w.table_name, w.action, make_interval(secs => w.stale_after), make_interval(secs => w.every)
    FROM jsonb_to_recordset(watches) AS w (name text, table_name text, action text, stale_after float8, every float8)
    WHERE NOT EXISTS (
        SELECT FROM holdfast.watches o
        WHERE (o.name, o.table_name, o.action, o.stale_after, o.every)
            = (w.name, w.table_name, w.action, make_interval(secs => w.stale_after), make_interval(secs => w.every)))
    ORDER BY w.name
    ON CONFLICT (name) DO UPDATE SET table_name = excluded.table_name, action = excluded.action,
        stale_after = excluded.stale_after, every = excluded.every;
    RETURN QUERY
    UPDATE holdfast.watches AS k
    SET looked_at = _now
    WHERE k.name = ANY (ARRAY(
        SELECT o.name FROM holdfast.watches o
        JOIN jsonb_to_recordset(watches) AS w (name text) ON w.name = o.name
        WHERE o.looked_at IS NULL OR o.looked_at <= _now - o.every OR o.looked_at > _now + o.every
        ORDER BY o.name
        FOR UPDATE OF o SKIP LOCKED))
    RETURNING k.name;
END
$function$;

-- What a look at a watched table came to. `result`: {stale, rescued, given_up}; {problem} where it could not be looked at, or where
-- it refused that rows be taken back; {advice}. What was done is forgotten after 7 days, some of it each time, unless its message is still to be sent.
-- Returns what people are told by: since when nobody could look, what was rescued and given up within the hour, and the messages
-- that could not be sent, since when.
CREATE OR REPLACE FUNCTION holdfast.end_watch(name text, result jsonb)
RETURNS TABLE (blind_since timestamptz, rescued bigint, given_up bigint, unsent bigint, unsent_since timestamptz, unsent_why text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    UPDATE holdfast.watches AS k
    SET stale = coalesce((result ->> 'stale')::bigint, k.stale),
        rescued = k.rescued + coalesce((result ->> 'rescued')::bigint, 0),
        given_up = k.given_up + coalesce((result ->> 'given_up')::bigint, 0),
        problem_since = CASE WHEN result ? 'problem' THEN coalesce(k.problem_since, _now) END,
        problem = result ->> 'problem',
        advice = result ->> 'advice'
    WHERE k.name = end_watch.name;
    DELETE FROM holdfast.watch_rescues AS r
    WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM holdfast.watch_rescues o
        WHERE o.rescued_at < _now - interval '7 days' AND (o.queue_url IS NULL OR o.sent_at IS NOT NULL)
        ORDER BY o.rescued_at LIMIT 1000
        FOR UPDATE SKIP LOCKED));
    RETURN QUERY
    SELECT k.problem_since, count(r.id) FILTER (WHERE NOT r.is_final), count(r.id) FILTER (WHERE r.is_final),
           u.many, u.since, u.why
    FROM holdfast.watches k
    LEFT JOIN LATERAL (
        SELECT o.id, o.is_final FROM holdfast.watch_rescues o
        WHERE o.watch = k.name AND o.rescued_at > _now - interval '1 hour' LIMIT 1000) r ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS many, min(o.rescued_at) AS since, max(o.error) AS why
        FROM (SELECT s.rescued_at, s.error FROM holdfast.watch_rescues s
              WHERE s.queue_url IS NOT NULL AND s.sent_at IS NULL AND s.error IS NOT NULL AND s.watch = k.name LIMIT 1000) o) u
    WHERE k.name = end_watch.name
    GROUP BY k.name, k.problem_since, u.many, u.since, u.why;
END
$function$;

-- The watched tables, for people and health checks: those that somebody looked at within a day, or, with `abandoned`, the others. `unsent`: messages of rescued rows that still wait to be sent, counted to 1,000.
CREATE OR REPLACE FUNCTION holdfast.list_watches(max_rows integer DEFAULT 100, abandoned boolean DEFAULT false)
RETURNS TABLE (name text, table_name text, action text, stale_after interval, every interval, looked_at timestamptz,
    looked_ago interval, stale bigint, rescued bigint, given_up bigint, unsent bigint, problem_since timestamptz, problem text, advice text)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    SELECT k.name, k.table_name, k.action, k.stale_after, k.every, k.looked_at, _now - k.looked_at, k.stale, k.rescued, k.given_up,
           (SELECT count(*) FROM (SELECT FROM holdfast.watch_rescues r
                                  WHERE r.watch = k.name AND r.queue_url IS NOT NULL AND r.sent_at IS NULL LIMIT 1000) u),
           k.problem_since, k.problem, k.advice
    FROM holdfast.watches k
    WHERE (k.looked_at > _now - interval '1 day') <> abandoned
    ORDER BY k.name
    LIMIT max_rows;
END
$function$;

-- A watched table was taken out of the settings: nobody misses the looks at it from now on. What was done to its rows is kept its
-- time, and messages that wait are sent. A process that still watches it brings it back with its next look.
CREATE OR REPLACE FUNCTION holdfast.forget_watch(name text) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DELETE FROM holdfast.watches AS k WHERE k.name = forget_watch.name RETURNING k.name;
$function$;

-- Messages of rescued rows that are to be sent now, the oldest first; whoever takes them has `lease` to send them, then they are
-- due again. `attempts` counts this one.
CREATE OR REPLACE FUNCTION holdfast.take_watch_messages(max_rows integer, lease interval)
RETURNS TABLE (id uuid, watch text, row_id text, queue_url text, entry jsonb, attempts integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    UPDATE holdfast.watch_rescues AS r
    SET due_at = _now + lease, attempts = r.attempts + 1
    WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM holdfast.watch_rescues o
        WHERE o.queue_url IS NOT NULL AND o.sent_at IS NULL AND o.due_at <= _now
        ORDER BY o.due_at
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED))
    RETURNING r.id, r.watch, r.row_id, r.queue_url, r.entry, r.attempts;
END
$function$;

-- What became of messages that were taken: sent where its error is null, else due again after its delay.
CREATE OR REPLACE FUNCTION holdfast.settle_watch_messages(ids uuid[], errors text[], delays interval[]) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    UPDATE holdfast.watch_rescues AS r
    SET sent_at = CASE WHEN x.error IS NULL THEN _now END, error = x.error, due_at = _now + x.delay
    FROM unnest(ids, errors, delays) AS x (id, error, delay)
    WHERE r.id = x.id AND r.sent_at IS NULL
    RETURNING r.id;
END
$function$;

-- Tables of the team's own that could hold jobs: those with a column that is called like a status, its values as far as they are
-- known (an enum's, a check's, those of the statistics, those of the first 1,000 rows), the columns with times, and the column that
-- identifies a row. Nothing is read but names, and of status columns distinct values.
CREATE OR REPLACE FUNCTION holdfast.discover_tables(max_tables integer DEFAULT 200)
RETURNS TABLE (schema_name text, table_name text, row_estimate bigint, id_column text, status_column text, status_values text[],
    times text[], columns text[])
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _each record;
BEGIN
    FOR _each IN
        SELECT n.nspname, c.relname, c.oid, greatest(c.reltuples, 0)::bigint AS estimate, s.attname AS status, s.atttypid, s.attnum,
               t.typtype
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute s ON s.attrelid = c.oid AND s.attnum > 0 AND NOT s.attisdropped
        JOIN pg_catalog.pg_type t ON t.oid = s.atttypid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'holdfast') AND n.nspname NOT LIKE 'pg\_%'
          AND (s.attname ~* '^(\w+_)?(status|state)$' OR s.attname ~ '^\w+(Status|State)$')
          AND (t.typcategory IN ('S', 'E') OR t.typname IN ('int2', 'int4'))
          AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, s.attnum, 'SELECT')
        ORDER BY n.nspname, c.relname, length(s.attname)
        LIMIT max_tables
    LOOP
        schema_name := _each.nspname;
        table_name := _each.relname;
        row_estimate := _each.estimate;
        status_column := _each.status;
        SELECT a.attname INTO id_column
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = _each.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] > 0
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1;
        columns := ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = _each.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum LIMIT 200);
        times := ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid = _each.oid AND a.attnum > 0 AND NOT a.attisdropped
                         AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
                       ORDER BY a.attnum LIMIT 50);
        IF _each.typtype = 'e' THEN
            status_values := ARRAY(SELECT e.enumlabel FROM pg_catalog.pg_enum e WHERE e.enumtypid = _each.atttypid
                                   ORDER BY e.enumsortorder);
        ELSE
            status_values := ARRAY(
                SELECT m[1] FROM pg_catalog.pg_constraint k
                CROSS JOIN LATERAL regexp_matches(pg_get_constraintdef(k.oid), '''([^'']*)''', 'g') AS m
                WHERE k.contype = 'c' AND (k.conrelid = _each.oid AND k.conkey = ARRAY[_each.attnum] OR k.contypid = _each.atttypid)
                UNION
                SELECT rtrim(unnest(p.most_common_vals::text::text[])) FROM pg_catalog.pg_stats p
                WHERE p.schemaname = _each.nspname AND p.tablename = _each.relname AND p.attname = _each.status
                LIMIT 100);
            EXECUTE format('SELECT array_agg(DISTINCT v) FROM (SELECT unnest($1) UNION ALL'
                           ' SELECT x.v FROM (SELECT t.%I::text FROM %I.%I AS t LIMIT 1000) AS x (v)) AS y (v) WHERE v IS NOT NULL',
                           _each.status, _each.nspname, _each.relname)
            INTO status_values USING status_values;
        END IF;
        status_values := coalesce(status_values[1:100], '{}');
        RETURN NEXT;
    END LOOP;
END
$function$;

SELECT holdfast.expose_functions(ARRAY['examine_watch', 'find_watched', 'rescue_watched', 'begin_watches', 'end_watch', 'list_watches', 'forget_watch', 'take_watch_messages', 'settle_watch_messages', 'discover_tables']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (19, '019_watches', 'f2885f95379b975a7492ca750d82e301b14de792dd043eeece066e578d42565b');
END
$holdfast$;
