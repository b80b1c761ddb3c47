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
