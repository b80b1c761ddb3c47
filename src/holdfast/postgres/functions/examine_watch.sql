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
