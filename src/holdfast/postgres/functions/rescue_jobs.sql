-- Take jobs back from runs that will not end: what a rescue does to a row, for every reason. The caller has decided
-- the reason and read the lease; a row that has moved on since is left alone, a locked one is skipped. Where `seen` is
-- given, its last sign of life must still be that one too.
--
-- What a reason costs:
--   claim_lost                       nothing: no handler ever started
--   worker_gone, a clean stop, an outage or our own fencing: nothing
--   worker_gone by a crash           shared with others: the first requeues at once, the second makes the job
--                                    suspect. Alone in quarantine, and seen: one crash of max_crashes, then dead.
--   deadline_passed, no_heartbeat    one attempt of max_attempts, then dead
-- Whatever the reason: the lease grows; a wanted cancel ends it cancelled; rescue_policy 'dead' ends it dead unless no
-- handler started; the twentieth rescue ends it dead. The first rescue requeues at once and keeps the job's place,
-- later ones back off: 1 s doubled each time, at most 60 s, with jitter.
CREATE OR REPLACE FUNCTION holdfast.rescue_jobs(
    ids uuid[], leases bigint[], reasons text[], opts jsonb DEFAULT '{}', seen timestamptz[] DEFAULT NULL
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
    _now  timestamptz := holdfast.clock();
    _dice double precision := coalesce((opts ->> 'dice')::double precision, random());
    _max_rescues CONSTANT integer := 20;
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT j.id, s.reason, j.lease, j.worker_id, j.claimed_at, w.gone_reason,
               j.attempts, j.crashes, j.shared_crashes, j.max_attempts, j.max_crashes, j.rescues, j.rescue_policy,
               j.cancel_requested_at,
               CASE s.reason WHEN 'worker_gone' THEN greatest(j.heartbeat_at, w.seen_at) ELSE j.heartbeat_at END AS seen,
               s.reason = 'worker_gone' AND coalesce(w.gone_is_crash, false) AS is_crash,
               s.reason = 'worker_gone'
                   AND coalesce(w.gone_is_crash AND w.quarantine AND w.gone_reason = 'crashed', false) AS alone
        FROM (SELECT * FROM unnest(rescue_jobs.ids, rescue_jobs.leases, rescue_jobs.reasons, rescue_jobs.seen)
                  AS u (id, lease, reason, seen)
              ORDER BY u.id) s
        JOIN holdfast.jobs j ON j.id = s.id AND j.lease = s.lease AND j.status IS NOT DISTINCT FROM 'running'
            AND (rescue_jobs.seen IS NULL OR j.heartbeat_at IS NOT DISTINCT FROM s.seen)
        LEFT JOIN holdfast.workers w ON w.id = j.worker_id
        FOR UPDATE OF j SKIP LOCKED
    ), rescued AS (
        UPDATE holdfast.jobs AS j
        SET lease = j.lease + 1,
            worker_id = NULL,
            settled_as = NULL,
            deadline_at = NULL,
            heartbeat_at = NULL,
            rescues = j.rescues + 1,
            attempts = n.attempts,
            crashes = n.crashes,
            shared_crashes = n.shared_crashes,
            suspect = j.suspect OR n.shared_crashes >= 2,
            status = n.status,
            run_at = CASE WHEN n.status = 'queued' AND j.rescues > 0 AND h.reason <> 'claim_lost'
                          THEN _now + make_interval(secs => least(60, 2 ^ (j.rescues - 1)) * (0.75 + 0.5 * _dice))
                          ELSE j.run_at END,
            finished_at = CASE WHEN n.status <> 'queued' THEN _now END,
            error = CASE WHEN n.status = 'dead' THEN jsonb_build_object('type', h.reason, 'message', n.message)
                         ELSE j.error END,
            fingerprint = CASE WHEN n.status = 'dead' THEN 'rescue:' || h.reason || ':' || j.kind ELSE j.fingerprint END
        FROM held h
        CROSS JOIN LATERAL (
            SELECT h.attempts + (h.reason IN ('deadline_passed', 'no_heartbeat'))::integer AS attempts,
                   h.crashes + h.alone::integer AS crashes,
                   h.shared_crashes + (h.is_crash AND NOT h.alone)::integer AS shared_crashes,
                   h.max_attempts, h.max_crashes, h.rescues, h.rescue_policy, h.cancel_requested_at) c
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN c.rescue_policy = 'dead' AND h.reason <> 'claim_lost'
                    THEN 'this job must not run twice (rescue="dead"), and its run did not end'
                WHEN c.crashes >= c.max_crashes AND h.alone
                    THEN format('crashed its process %s times while it ran alone', c.crashes)
                WHEN c.attempts >= c.max_attempts AND h.reason IN ('deadline_passed', 'no_heartbeat')
                    THEN format('no attempt left after %s of %s', c.attempts, c.max_attempts)
                WHEN c.rescues + 1 >= _max_rescues THEN format('rescued %s times', c.rescues + 1)
                END AS message) m
        CROSS JOIN LATERAL (
            SELECT c.attempts, c.crashes, c.shared_crashes, m.message,
                   CASE WHEN c.cancel_requested_at IS NOT NULL THEN 'cancelled'
                        WHEN m.message IS NOT NULL THEN 'dead'
                        ELSE 'queued' END AS status) n
        WHERE j.id = h.id
        RETURNING j.id, j.queue, j.kind, h.reason, h.lease, h.worker_id, j.status, h.is_crash, h.alone, h.seen,
            h.claimed_at, h.gone_reason, j.suspect, j.run_at
    ), noted AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT r.id, _now, CASE WHEN r.is_crash THEN 'crash' ELSE 'rescue' END, r.reason, r.lease, r.worker_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'status', r.status, 'last_sign_of_life', r.seen, 'silent_seconds', extract(epoch FROM _now - r.seen),
                   'claimed_at', r.claimed_at, 'gone_reason', r.gone_reason,
                   'alone', CASE WHEN r.is_crash THEN r.alone END,
                   'suspect', CASE WHEN r.suspect THEN true END,
                   'run_at', CASE WHEN r.status = 'queued' THEN r.run_at END))
        FROM rescued r
    )
    SELECT r.id, r.queue, r.kind, r.reason, r.lease, r.worker_id, r.status, r.is_crash, r.seen, r.claimed_at, _now
    FROM rescued r;
END
$function$;
