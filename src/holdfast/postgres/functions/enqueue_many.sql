-- Write many jobs, exactly once each.
--
-- The caller makes the ids (uuid version 7), so a call that is repeated because its answer was lost inserts
-- nothing twice. ON CONFLICT has no target, since two indexes can object: the id (that same job, already written:
-- `created` is true, for it is the caller's own) and the unique key (somebody else's job, still queued or running:
-- its id comes back with `created` false). A batch is sorted by kind and unique key, so that two batches which
-- meet the same keys wait for each other in one order and cannot deadlock.
--
-- Per job: ids, queues, kinds, args, and optionally the other arrays, padded with NULL. A policy is an object
-- {max_attempts, max_crashes, retry, rescue, timeout, silent_after, limit_max}, times in seconds; opts.policies
-- holds the distinct ones, and `policies` names one for each job by its position from 0 (0 when not given).
-- No `timeout` means one hour; an explicit null means none.
CREATE OR REPLACE FUNCTION holdfast.enqueue_many(
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
) RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _count    integer := cardinality(enqueue_many.ids);
    _inserted uuid[];
    _policies integer := greatest(jsonb_array_length(enqueue_many.opts -> 'policies'), 1);
    _bad      text;
BEGIN
    IF _count IS NULL OR _count = 0 THEN
        RETURN;
    END IF;
    IF cardinality(enqueue_many.queues) IS DISTINCT FROM _count
        OR cardinality(enqueue_many.kinds) IS DISTINCT FROM _count
        OR cardinality(enqueue_many.args) IS DISTINCT FROM _count THEN
        RAISE EXCEPTION 'ids, queues, kinds and args must have the same length'
            USING ERRCODE = '22023', HINT = 'Give one element of each for every job.';
    END IF;
    SELECT format('job %s: %s', i.ord, CASE
            WHEN i.id IS NULL THEN 'id is null'
            WHEN i.args IS NULL THEN 'args is null'
            WHEN jsonb_typeof(i.args) <> 'object' THEN 'args must be a JSON object'
            WHEN pg_column_size(i.args) > 262144 AND octet_length(i.args::text) > 2097152 THEN 'args has more than 2 MiB as text'
            WHEN coalesce(i.queue, '') = '' OR length(i.queue) > 200 THEN 'queue must have 1 to 200 characters'
            WHEN coalesce(i.kind, '') = '' OR length(i.kind) > 200 THEN 'kind must have 1 to 200 characters'
            WHEN length(i.unique_key) > 500 OR length(i.group_key) > 500 OR length(i.limit_key) > 500
                THEN 'unique_key, group_key and limit_key must have at most 500 characters'
            -- Drivers read no time beyond these years, in whatever time zone: one such row would break every claim.
            ELSE 'run_at must lie in the years 2 to 9998'
        END)
    INTO _bad
    FROM unnest(enqueue_many.ids, enqueue_many.queues, enqueue_many.kinds, enqueue_many.args,
                enqueue_many.unique_keys, enqueue_many.group_keys, enqueue_many.limit_keys,
                enqueue_many.run_ats, enqueue_many.delays)
        WITH ORDINALITY AS i (id, queue, kind, args, unique_key, group_key, limit_key, run_at, delay, ord)
    WHERE i.ord <= _count
      AND (i.id IS NULL OR i.args IS NULL OR jsonb_typeof(i.args) <> 'object' OR (pg_column_size(i.args) > 262144 AND octet_length(i.args::text) > 2097152)
        OR coalesce(i.queue, '') = '' OR length(i.queue) > 200 OR coalesce(i.kind, '') = '' OR length(i.kind) > 200
        OR length(i.unique_key) > 500 OR length(i.group_key) > 500 OR length(i.limit_key) > 500
        OR coalesce(i.run_at, _now + i.delay) NOT BETWEEN '0002-01-01 00:00+00' AND '9998-12-31 24:00+00')
    LIMIT 1;
    IF _bad IS NULL THEN
        -- A number that no clock can add would make the row unreadable for every claim.
        SELECT format('policy %s: %s is out of range', p, v.key)
        INTO _bad
        FROM jsonb_array_elements(coalesce(enqueue_many.opts -> 'policies', '[]')) AS p
        CROSS JOIN LATERAL jsonb_each(p) AS v
        WHERE jsonb_typeof(v.value) = 'number'
          AND NOT CASE WHEN v.key IN ('timeout', 'silent_after') THEN v.value::numeric > 0 AND v.value::numeric <= 31622400
                       WHEN v.key IN ('max_attempts', 'max_crashes', 'limit_max') THEN v.value::numeric BETWEEN 1 AND 1000000
                       ELSE true END
        LIMIT 1;
    END IF;
    IF _bad IS NULL THEN
        SELECT format('policy number %s is out of range: opts.policies has %s', p, _policies)
        INTO _bad
        FROM unnest(enqueue_many.policies) AS p
        WHERE p NOT BETWEEN 0 AND _policies - 1
        LIMIT 1;
    END IF;
    IF _bad IS NOT NULL THEN
        RAISE EXCEPTION '%', _bad USING ERRCODE = '22023';
    END IF;

    FOR _try IN 1..10 LOOP
        WITH policy AS MATERIALIZED (
            SELECT e.n - 1 AS n,
                   coalesce((e.p ->> 'max_attempts')::integer, 5) AS max_attempts,
                   coalesce((e.p ->> 'max_crashes')::integer, 3) AS max_crashes,
                   e.p -> 'retry' AS retry_policy,
                   coalesce(e.p ->> 'rescue', 'requeue') AS rescue_policy,
                   CASE WHEN e.p ? 'timeout' THEN make_interval(secs => (e.p ->> 'timeout')::double precision)
                        ELSE interval '1 hour' END AS timeout,
                   make_interval(secs => (e.p ->> 'silent_after')::double precision) AS silent_after,
                   (e.p ->> 'limit_max')::integer AS limit_max
            FROM jsonb_array_elements(coalesce(enqueue_many.opts -> 'policies', '[{}]'))
                WITH ORDINALITY AS e (p, n)
        ), written AS (
            INSERT INTO holdfast.jobs (id, queue, kind, args, priority, run_at, group_key, unique_key, limit_key,
                limit_max, max_attempts, max_crashes, retry_policy, rescue_policy, timeout, silent_after,
                traceparent, created_at)
            SELECT i.id, i.queue, i.kind, i.args, coalesce(i.priority, 0),
                   coalesce(i.run_at, _now + greatest(i.delay, interval '0'), _now),
                   i.group_key, i.unique_key, i.limit_key,
                   CASE WHEN i.limit_key IS NOT NULL THEN coalesce(p.limit_max, 1) END,
                   p.max_attempts, p.max_crashes, p.retry_policy, p.rescue_policy, p.timeout, p.silent_after,
                   i.traceparent, _now
            FROM unnest(enqueue_many.ids, enqueue_many.queues, enqueue_many.kinds, enqueue_many.args,
                        enqueue_many.priorities, enqueue_many.run_ats, enqueue_many.delays,
                        enqueue_many.unique_keys, enqueue_many.group_keys, enqueue_many.limit_keys,
                        enqueue_many.policies, enqueue_many.traceparents)
                WITH ORDINALITY AS i (id, queue, kind, args, priority, run_at, delay, unique_key, group_key,
                    limit_key, policy, traceparent, ord)
            JOIN policy p ON p.n = coalesce(i.policy, 0)
            WHERE i.ord <= _count
            ORDER BY i.kind, i.unique_key, i.id
            ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT array_agg(w.id) INTO _inserted FROM written w;

        IF cardinality(_inserted) = _count THEN
            RETURN QUERY
            SELECT i.ord::integer, i.id, true
            FROM unnest(enqueue_many.ids) WITH ORDINALITY AS i (id, ord);
            RETURN;
        END IF;

        -- Some were there already. A unique key that has become free in between goes round once more.
        RETURN QUERY
        SELECT i.ord::integer, coalesce(same.id, other.id), same.id IS NOT NULL
        FROM unnest(enqueue_many.ids, enqueue_many.kinds, enqueue_many.unique_keys)
            WITH ORDINALITY AS i (id, kind, unique_key, ord)
        LEFT JOIN holdfast.jobs same ON same.id = i.id
        LEFT JOIN holdfast.jobs other ON same.id IS NULL AND other.kind = i.kind
            AND other.unique_key = i.unique_key AND other.status IN ('queued', 'running')
        WHERE i.ord <= _count AND coalesce(same.id, other.id) IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM unnest(enqueue_many.ids, enqueue_many.kinds, enqueue_many.unique_keys)
                WITH ORDINALITY AS r (id, kind, unique_key, ord)
            LEFT JOIN holdfast.jobs s ON s.id = r.id
            LEFT JOIN holdfast.jobs o ON s.id IS NULL AND o.kind = r.kind
                AND o.unique_key = r.unique_key AND o.status IN ('queued', 'running')
            WHERE r.ord <= _count AND s.id IS NULL AND o.id IS NULL);
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'jobs could not be written: their unique keys change hands too quickly'
        USING ERRCODE = '40001', HINT = 'Try again.';
END
$function$;
