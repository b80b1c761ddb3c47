-- Take up to max_jobs due jobs for this worker, each under a new lease. The only way a job begins to run.
--
-- 1. Before the first job is taken, the worker's own row is locked FOR KEY SHARE and must not be gone. mark_workers_gone
--    takes FOR UPDATE on it, so it waits for a claim under way and sees its rows; a claim that comes later finds the
--    worker gone. (A plain UPDATE of that row would pass a KEY SHARE lock: the gap through which a job could stay with a
--    gone worker.) A claim that finds no job only reads that row: a lock is a write, which costs a flush of the log.
-- 2. Candidates are read in order, then locked with SKIP LOCKED and checked again. Where another claim was quicker we
--    go on behind the last candidate, so that two workers at the head of one queue do not starve each other.
-- 3. A claim never waits for a job's lock.
-- 4. The rows are looked up by their ids. The predicate on status is written so that the index of the claim order cannot
--    be used for that: a plan cached on an empty table walked all of it (1,700 pages a claim at 200,000 jobs).
--
-- `suspect = j.suspect` changes nothing, and spares a fifth of the time: where an UPDATE touches no column that a stored
-- generated one (lane) depends on, Postgres reads its expression anew for every row.
--
-- A quarantine worker gets suspects only, and one at a time, since only a crash while alone counts against a job. A
-- queue at its limit is left out whole, so that its jobs do not stand before those of other queues.
--
-- opts: {floor: {priority, run_at, id}, dice}.
-- Raises HF001 when the worker is gone or unknown.
CREATE OR REPLACE FUNCTION holdfast.claim(
    worker_id uuid, queues text[], kinds text[], max_jobs integer, opts jsonb DEFAULT '{}'
) RETURNS TABLE (
    id uuid, lease bigint, queue text, kind text, args jsonb, priority smallint, run_at timestamptz,
    group_key text, limit_key text, attempts integer, max_attempts integer, crashes integer, suspect boolean,
    retry_policy jsonb, timeout interval, silent_after interval, deadline_at timestamptz, progress jsonb,
    traceparent text, created_at timestamptz, claimed_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now        timestamptz;
    _quarantine boolean;
    _lives      boolean;
    _open       text[];
    _limited    boolean;
    _wanted     integer := coalesce(max_jobs, 0);
    _floor_p    smallint := coalesce((opts #>> '{floor,priority}')::smallint, -32768);
    _floor_r    timestamptz := coalesce((opts #>> '{floor,run_at}')::timestamptz, '-infinity');
    _floor_i    uuid := coalesce((opts #>> '{floor,id}')::uuid, '00000000-0000-0000-0000-000000000000');
    _ids        uuid[];
    _seen       integer;
    _laned      boolean;
    _got        integer;
BEGIN
    SELECT w.quarantine, w.gone_at IS NULL INTO _quarantine, _lives FROM holdfast.workers w WHERE w.id = claim.worker_id;
    _now := holdfast.clock();
    IF _quarantine THEN
        _wanted := least(_wanted, 1 - (SELECT count(*)::integer FROM holdfast.jobs j
                                       WHERE j.worker_id = claim.worker_id AND j.status = 'running'));
    END IF;

    SELECT array_agg(n.name ORDER BY n.name), coalesce(bool_or(q.limits ? 'running'), false)
    INTO _open, _limited
    FROM unnest(claim.queues) AS n (name)
    LEFT JOIN holdfast.queues q ON q.name = n.name
    WHERE NOT coalesce(q.paused, false)
      AND (q.limits -> 'running' IS NULL OR (q.limits ->> 'running')::integer > (
        SELECT count(*) FROM holdfast.jobs r WHERE r.status = 'running' AND r.queue = q.name));

    FOR _round IN 1..8 LOOP
        EXIT WHEN _open IS NULL OR _wanted <= 0 OR _lives IS NOT TRUE;
        SELECT array_agg(c.id), count(*), bool_or(c.laned)
        INTO _ids, _seen, _laned
        FROM holdfast.claim_candidates(_open, claim.kinds, _wanted, _quarantine, _now, _floor_p, _floor_r, _floor_i,
                                       coalesce((opts ->> 'dice')::double precision, random())) c;
        EXIT WHEN _seen = 0;
        IF _round = 1 THEN
            SELECT true INTO _lives
            FROM holdfast.workers w
            WHERE w.id = claim.worker_id AND w.gone_at IS NULL
            FOR KEY SHARE;
            EXIT WHEN NOT FOUND;
        END IF;
        IF _round < 8 AND _seen = _wanted THEN
            SELECT j.priority, j.run_at, j.id INTO _floor_p, _floor_r, _floor_i
            FROM holdfast.jobs j WHERE j.id = _ids[_seen];
        END IF;
        IF _laned OR _limited THEN
            _ids := holdfast.claim_admit(_ids);
        END IF;

        RETURN QUERY
        UPDATE holdfast.jobs AS j
        SET status = 'running',
            lease = j.lease + 1,
            worker_id = claim.worker_id,
            claimed_at = _now,
            heartbeat_at = _now,
            deadline_at = _now + j.timeout + interval '30 seconds',
            settled_as = NULL,
            suspect = j.suspect
        WHERE j.id = ANY (ARRAY(
            SELECT f.id FROM holdfast.jobs f
            WHERE f.id = ANY (_ids) AND f.status IS NOT DISTINCT FROM 'queued' AND f.run_at <= _now
              AND f.suspect = _quarantine
            FOR UPDATE SKIP LOCKED))
        RETURNING j.id, j.lease, j.queue, j.kind, j.args, j.priority, j.run_at, j.group_key, j.limit_key, j.attempts,
            j.max_attempts, j.crashes, j.suspect, j.retry_policy, j.timeout, j.silent_after, j.deadline_at,
            j.progress, j.traceparent, j.created_at, j.claimed_at;
        GET DIAGNOSTICS _got = ROW_COUNT;
        EXIT WHEN _seen < _wanted;
        _wanted := _wanted - _got;
    END LOOP;
    IF _lives IS NOT TRUE THEN
        RAISE EXCEPTION 'worker % is gone, or was never registered', claim.worker_id
            USING ERRCODE = 'HF001', HINT = 'This is final: end the process and start a new one, which has a new id.';
    END IF;

    UPDATE holdfast.queues AS q
    SET claimed_at = _now
    WHERE q.name = ANY (ARRAY(
        SELECT l.name FROM holdfast.queues l
        WHERE l.name = ANY (claim.queues) AND NOT l.paused AND (l.claimed_at IS NULL OR l.claimed_at < _now - interval '1 second')
        FOR UPDATE SKIP LOCKED));
END
$function$;
