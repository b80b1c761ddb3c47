-- One page of jobs that match a filter, newest first, in bounded time however many jobs there are: at most `max_looked` rows are
-- read. filter: {status, queue, kind, error, key, args, fingerprint, created_after, created_before}; `error` is part of its type or message, in
-- either case; `key` a unique, group or limit key; `args` a document that the arguments contain.
-- Where those in a state are fewer than `max_looked` they are all looked at, over the index of that state; else the newest rows
-- before `before_id` are. Answers {jobs, next, complete, looked_to}: `next` is where the following page begins, null at the end;
-- `complete` is false where the page ended because enough was looked at, and `looked_to` is how far back that was.
CREATE OR REPLACE FUNCTION holdfast.search_jobs(filter jsonb, before_id uuid, max_jobs integer DEFAULT 50,
    max_looked integer DEFAULT 10000)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _status text        := filter ->> 'status';
    _queue  text        := filter ->> 'queue';
    _kind   text        := filter ->> 'kind';
    _error  text        := lower(filter ->> 'error');
    _key    text        := filter ->> 'key';
    _args   jsonb       := filter -> 'args';
    _cause  text        := filter ->> 'fingerprint';
    _after  timestamptz := (filter ->> 'created_after')::timestamptz;
    _until  timestamptz := (filter ->> 'created_before')::timestamptz;
    _before uuid        := coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    _ids    uuid[];
    _few    boolean     := false;
    _jobs   jsonb;
    _found  integer;
    _last   record;
BEGIN
    IF _status = 'queued' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'queued'
              AND (_queue IS NULL OR j.queue = _queue) AND (_kind IS NULL OR j.kind = _kind) LIMIT max_looked + 1) s;
    ELSIF _status = 'running' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'running' LIMIT max_looked + 1) s;
    ELSIF _status = 'dead' THEN
        SELECT array_agg(s.id) INTO _ids
        FROM (SELECT j.id FROM holdfast.jobs j WHERE j.status = 'dead'
              AND (_cause IS NULL OR j.fingerprint = _cause) LIMIT max_looked + 1) s;
    END IF;
    _few := coalesce(_status IN ('queued', 'running', 'dead'), false) AND coalesce(cardinality(_ids), 0) <= max_looked;

    WITH looked AS (
        SELECT j.*
        FROM (SELECT u.id FROM unnest(_ids) AS u (id) WHERE u.id < _before ORDER BY u.id DESC) o
        JOIN LATERAL (SELECT * FROM holdfast.jobs j WHERE j.id = o.id) j ON true
        WHERE _few
        UNION ALL
        (SELECT j.* FROM holdfast.jobs j WHERE NOT _few AND j.id < _before ORDER BY j.id DESC LIMIT max_looked)
    ), page AS (
        SELECT l.*
        FROM looked l
        WHERE (_status IS NULL OR l.status = _status)
          AND (_queue IS NULL OR l.queue = _queue)
          AND (_kind IS NULL OR l.kind = _kind)
          AND (_error IS NULL OR position(_error IN lower(concat_ws(': ', l.error ->> 'type', l.error ->> 'message'))) > 0)
          AND (_key IS NULL OR _key IN (l.unique_key, l.group_key, l.limit_key))
          AND (_args IS NULL OR l.args @> _args)
          AND (_cause IS NULL OR l.fingerprint = _cause)
          AND (_after IS NULL OR l.created_at >= _after)
          AND (_until IS NULL OR l.created_at < _until)
        LIMIT max_jobs + 1
    )
    SELECT jsonb_agg(jsonb_build_object(
               'id', p.id, 'queue', p.queue, 'kind', p.kind, 'status', p.status, 'attempts', p.attempts,
               'max_attempts', p.max_attempts, 'lease', p.lease, 'run_at', p.run_at, 'claimed_at', p.claimed_at,
               'heartbeat_at', p.heartbeat_at, 'finished_at', p.finished_at, 'created_at', p.created_at,
               'error', left(p.error ->> 'message', 500), 'error_type', p.error ->> 'type', 'suspect', p.suspect,
               'cancel_requested', p.cancel_requested_at IS NOT NULL AND p.finished_at IS NULL,
               'known', CASE WHEN p.status = 'queued' THEN EXISTS (
                   SELECT FROM holdfast.workers w WHERE w.gone_at IS NULL AND p.kind = ANY (w.kinds)) END)
               ORDER BY p.id DESC),
           count(*)
    INTO _jobs, _found
    FROM page p;

    IF _found > max_jobs THEN
        _jobs := _jobs - max_jobs;
        RETURN jsonb_build_object('jobs', _jobs, 'next', _jobs -> (max_jobs - 1) ->> 'id', 'complete', true, 'looked_to', NULL);
    END IF;
    IF NOT _few THEN
        SELECT j.id, j.created_at INTO _last
        FROM holdfast.jobs j WHERE j.id < _before ORDER BY j.id DESC OFFSET max_looked - 1 LIMIT 1;
        -- Ids are made at creation, give or take a clock: what is a day older than the filter asks is the end.
        IF FOUND AND (_after IS NULL OR _last.created_at >= _after - interval '1 day') THEN
            RETURN jsonb_build_object('jobs', coalesce(_jobs, '[]'), 'next', _last.id, 'complete', false,
                'looked_to', _last.created_at);
        END IF;
    END IF;
    RETURN jsonb_build_object('jobs', coalesce(_jobs, '[]'), 'next', NULL, 'complete', true, 'looked_to', NULL);
END
$function$;
