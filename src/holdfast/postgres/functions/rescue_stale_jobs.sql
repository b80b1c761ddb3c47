-- One sweep: find what is stuck (stale_jobs decides that) and take it back (rescue_jobs decides what becomes of it).
-- Rows that moved on between the two are left alone: the lease and the last sign of life must still be what was read.
-- While the brake holds, or when nobody has swept for 15 s (so that the brake cannot know), only jobs of gone workers
-- are taken: silence proves nothing then. Returns at most max_jobs rows; call again, behind
-- the last of them, until none comes back (fewer may only mean that a row was locked).
-- opts: {after_worker, after_id} to go on behind the last row of the call before, dice.
CREATE OR REPLACE FUNCTION holdfast.rescue_stale_jobs(
    stale_after interval DEFAULT '10 minutes', max_jobs integer DEFAULT 1000, opts jsonb DEFAULT '{}'
) RETURNS TABLE (
    id uuid, queue text, kind text, reason text, lease bigint, worker_id uuid, status text, is_crash boolean,
    last_sign_of_life timestamptz, claimed_at timestamptz, rescued_at timestamptz)
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
    _now     timestamptz := holdfast.clock();
    _zero    CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    _held    boolean;
    _ids     uuid[];
    _leases  bigint[];
    _reasons text[];
    _seen    timestamptz[];
BEGIN
    SELECT m.swept_at IS NULL OR m.swept_at < _now - interval '15 seconds'
           OR m.resumed_at > _now - interval '25 seconds'
           OR (SELECT holdfast.postgres_started_at()) BETWEEN _now - interval '25 seconds' AND _now
           OR (m.hold IS NOT NULL AND NOT m.hold ? 'ended')
    INTO _held
    FROM holdfast.monitors m WHERE m.name = 'mark_workers_gone';

    SELECT array_agg(s.id), array_agg(s.lease), array_agg(s.reason), array_agg(s.heartbeat_at)
    INTO _ids, _leases, _reasons, _seen
    FROM holdfast.stale_jobs(stale_after, max_jobs, coalesce(_held, true),
                             coalesce((opts ->> 'after_worker')::uuid, _zero),
                             coalesce((opts ->> 'after_id')::uuid, _zero)) AS s;

    RETURN QUERY
    SELECT * FROM holdfast.rescue_jobs(_ids, _leases, _reasons, opts, _seen);
END
$function$;
