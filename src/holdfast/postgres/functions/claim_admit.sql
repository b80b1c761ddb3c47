-- Which of these candidates may run now, where groups, concurrency limits or a limit of the queue are concerned.
--
-- A count that was read before somebody else's commit is worth nothing, so: first one try-lock on each group,
-- limit and limited queue (whoever holds it is claiming there at this moment: leave those jobs to them), then a
-- count in a fresh statement, which sees all that the last holder committed. The locks end with the claim's
-- transaction. The unique index jobs_group_running is the guard behind this.
CREATE OR REPLACE FUNCTION holdfast.claim_admit(ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _key    text;
    _locked text[] := '{}';
    _result uuid[];
BEGIN
    FOR _key IN
        SELECT DISTINCT k.key
        FROM holdfast.jobs j
        LEFT JOIN holdfast.queues q ON q.name = j.queue
        CROSS JOIN LATERAL (VALUES
            ('group:' || j.queue || ':' || j.group_key),
            ('limit:' || j.limit_key),
            (CASE WHEN q.limits ? 'running' THEN 'queue:' || j.queue END)) AS k (key)
        WHERE j.id = ANY (claim_admit.ids) AND k.key IS NOT NULL
    LOOP
        IF pg_try_advisory_xact_lock(hashtextextended('holdfast.' || _key, 0)) THEN
            _locked := _locked || _key;
        END IF;
    END LOOP;

    WITH candidate AS MATERIALIZED (
        SELECT j.id, j.queue, j.group_key, j.limit_key, j.limit_max,
               (q.limits ->> 'running')::integer AS queue_max,
               row_number() OVER (PARTITION BY j.queue, j.group_key ORDER BY j.priority, j.run_at, j.id) AS group_place,
               row_number() OVER (PARTITION BY j.limit_key ORDER BY j.priority, j.run_at, j.id) AS limit_place,
               row_number() OVER (PARTITION BY j.queue ORDER BY j.priority, j.run_at, j.id) AS queue_place
        FROM holdfast.jobs j
        LEFT JOIN holdfast.queues q ON q.name = j.queue
        WHERE j.id = ANY (claim_admit.ids) AND j.status IS NOT DISTINCT FROM 'queued'
          AND (j.group_key IS NULL OR 'group:' || j.queue || ':' || j.group_key = ANY (_locked))
          AND (j.limit_key IS NULL OR 'limit:' || j.limit_key = ANY (_locked))
          AND (NOT coalesce(q.limits ? 'running', false) OR 'queue:' || j.queue = ANY (_locked))
    ), running AS MATERIALIZED (
        SELECT r.queue, r.group_key, r.limit_key FROM holdfast.jobs r WHERE r.status = 'running'
    )
    SELECT array_agg(c.id)
    INTO _result
    FROM candidate c
    WHERE (c.group_key IS NULL OR (c.group_place = 1 AND NOT EXISTS (
            SELECT FROM running r WHERE r.queue = c.queue AND r.group_key = c.group_key)))
      AND (c.limit_key IS NULL
           OR c.limit_place + (SELECT count(*) FROM running r WHERE r.limit_key = c.limit_key) <= c.limit_max)
      AND (c.queue_max IS NULL
           OR c.queue_place + (SELECT count(*) FROM running r WHERE r.queue = c.queue) <= c.queue_max);
    RETURN coalesce(_result, '{}');
END
$function$;
