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
