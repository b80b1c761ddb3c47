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
