-- Write many jobs that are due now, have no keys, and share one policy: enqueue_many at two thirds of the time.
-- jobs: an array of {id, queue, kind, args}; expected: how many they are; policy: see enqueue_many.
--
-- The jobs are read once and written as they are read: then one row comes back, without an id, for all of them. Whatever
-- is not quite like that, or was written already, sends all of them the way of many, which knows every rule and says what
-- is wrong; then each has a row with its place, `ord`. All come back as created: without keys, what has the caller's id is
-- his.
CREATE OR REPLACE FUNCTION holdfast.enqueue_plain(
    jobs json, expected integer, policy jsonb DEFAULT '{}'
) RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _timeout  double precision := CASE WHEN policy ? 'timeout' THEN (policy ->> 'timeout')::double precision ELSE 3600 END;
    _attempts numeric := coalesce((policy ->> 'max_attempts')::numeric, 5);
    _crashes  numeric := coalesce((policy ->> 'max_crashes')::numeric, 3);
    _written  bigint;
BEGIN
    IF json_array_length(jobs) = expected AND policy - ARRAY['timeout', 'max_attempts', 'max_crashes', 'retry'] = '{}'
        AND (_timeout IS NULL OR (_timeout > 0 AND _timeout <= 31622400))
        AND _attempts BETWEEN 1 AND 1000000 AND _crashes BETWEEN 1 AND 1000000 AND scale(_attempts) + scale(_crashes) = 0 THEN
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, max_attempts, max_crashes, retry_policy, timeout,
            created_at)
        SELECT j.id, j.queue, j.kind, j.args, _now, _attempts, _crashes, policy -> 'retry',
               make_interval(secs => _timeout), _now
        FROM json_to_recordset(enqueue_plain.jobs) AS j (id uuid, queue text, kind text, args jsonb)
        WHERE j.id IS NOT NULL AND length(j.queue) BETWEEN 1 AND 200 AND length(j.kind) BETWEEN 1 AND 200
          AND jsonb_typeof(j.args) = 'object' AND pg_column_size(j.args) <= 262144
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS _written = ROW_COUNT;
    END IF;
    IF _written = expected THEN
        ord := 1;
        created := true;
        RETURN NEXT;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT e.ord, e.id, e.created
    FROM (
        SELECT array_agg(j.id) AS ids, array_agg(j.queue) AS queues, array_agg(j.kind) AS kinds,
               array_agg(j.args) AS args
        FROM json_to_recordset(enqueue_plain.jobs) AS j (id uuid, queue text, kind text, args jsonb)
    ) AS a
    CROSS JOIN LATERAL holdfast.enqueue_many(
        a.ids, a.queues, a.kinds, a.args,
        opts => jsonb_build_object('policies', jsonb_build_array(enqueue_plain.policy))) AS e;
END
$function$;
