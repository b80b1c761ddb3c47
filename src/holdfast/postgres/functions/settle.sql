-- The end of runs: one statement for all that finished in a short window, each judged by its own lease.
--
-- outcomes: complete | fail | release | snooze.
--   complete   results[i] is stored                                          -> succeeded
--   fail       errors[i], fingerprints[i]; one attempt. delays[i] until the next; NULL means no further attempt
--                                                                            -> queued, or dead
--   release    given back unharmed (drain, outage): costs nothing            -> queued, in its old place
--   snooze     not now: delays[i] until the next look; costs nothing          -> queued
-- Where a cancel was asked for: complete stays succeeded (it has happened), all others end cancelled.
--
-- Verdict for each row:
--   applied    written now
--   already    the same worker, lease and outcome are on record: an answer was lost, and this is the repetition
--   lost       the lease is no longer the caller's, and nothing was written. A finished run that comes too late
--              leaves an event, so that fenced late writes can be counted.
--   locked     only with opts.skip_locked: somebody else holds the row locked, and it was not waited for. Nothing was
--              written; ask again. Without it one row that a person keeps locked would hold up all others of a batch.
-- One call may name two leases of a job (a late result, and a release of the claim that came back): each gets its own
-- verdict.
-- Lease and worker stay on the row, for `already`. The predicate on status is written so that the partial index
-- on running rows cannot be used: walking it collapses while an old snapshot keeps its dead entries alive.
-- opts: {skip_locked}.
CREATE OR REPLACE FUNCTION holdfast.settle(
    worker_id uuid,
    ids uuid[],
    leases bigint[],
    outcomes text[],
    results jsonb[] DEFAULT NULL,
    errors jsonb[] DEFAULT NULL,
    delays interval[] DEFAULT NULL,
    fingerprints text[] DEFAULT NULL,
    opts jsonb DEFAULT '{}'
) RETURNS TABLE (id uuid, lease bigint, verdict text, status text)
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
    _now      timestamptz := holdfast.clock();
    _count    integer := cardinality(settle.ids);
    _ids      uuid[];
    _leases   bigint[];
    _outcomes text[];
    _statuses text[];
    _locked   uuid[];
BEGIN
    IF _count IS NULL OR _count = 0 THEN
        RETURN;
    END IF;
    IF cardinality(settle.leases) IS DISTINCT FROM _count OR cardinality(settle.outcomes) IS DISTINCT FROM _count
        OR NOT settle.outcomes <@ ARRAY['complete', 'fail', 'release', 'snooze'] THEN
        RAISE EXCEPTION 'ids, leases and outcomes must have the same length, outcomes be complete, fail, release or snooze'
            USING ERRCODE = '22023';
    END IF;

    IF (opts ->> 'skip_locked')::boolean THEN
        -- What we could lock stays ours until the end, so that the call below waits for nothing.
        WITH free AS MATERIALIZED (
            SELECT j.id FROM holdfast.jobs j WHERE j.id = ANY (settle.ids) ORDER BY j.id FOR UPDATE SKIP LOCKED)
        SELECT array_agg(j.id) INTO _locked
        FROM holdfast.jobs j
        WHERE j.id = ANY (settle.ids) AND NOT EXISTS (SELECT FROM free f WHERE f.id = j.id);
        RETURN QUERY
        SELECT l.id, l.lease, 'locked', j.status
        FROM unnest(settle.ids, settle.leases) AS l (id, lease)
        JOIN holdfast.jobs j ON j.id = l.id
        WHERE l.id = ANY (_locked);
        RETURN QUERY
        SELECT r.*
        FROM (SELECT array_agg(u.id ORDER BY u.place) AS ids, array_agg(u.lease ORDER BY u.place) AS leases,
                     array_agg(u.outcome ORDER BY u.place) AS outcomes, array_agg(u.result ORDER BY u.place) AS results,
                     array_agg(u.error ORDER BY u.place) AS errors, array_agg(u.delay ORDER BY u.place) AS delays,
                     array_agg(u.fingerprint ORDER BY u.place) AS fingerprints
              FROM unnest(settle.ids, settle.leases, settle.outcomes, settle.results, settle.errors, settle.delays,
                          settle.fingerprints) WITH ORDINALITY
                  AS u (id, lease, outcome, result, error, delay, fingerprint, place)
              WHERE u.place <= _count AND NOT u.id = ANY (coalesce(_locked, '{}'))) f
        CROSS JOIN LATERAL holdfast.settle(settle.worker_id, f.ids, f.leases, f.outcomes, f.results, f.errors, f.delays,
                                           f.fingerprints) AS r;
        RETURN;
    END IF;

    WITH settled AS (
        UPDATE holdfast.jobs AS j
        SET status = CASE
                WHEN s.outcome = 'complete' THEN 'succeeded'
                WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN s.outcome = 'fail' AND (s.delay IS NULL OR j.attempts + 1 >= j.max_attempts) THEN 'dead'
                ELSE 'queued' END,
            attempts = j.attempts + (s.outcome = 'fail')::integer,
            run_at = CASE
                WHEN s.outcome IN ('fail', 'snooze') AND j.cancel_requested_at IS NULL
                    THEN _now + greatest(coalesce(s.delay, '0'), interval '0')
                ELSE j.run_at END,
            finished_at = CASE
                WHEN s.outcome = 'complete' OR j.cancel_requested_at IS NOT NULL
                    OR (s.outcome = 'fail' AND (s.delay IS NULL OR j.attempts + 1 >= j.max_attempts)) THEN _now END,
            result = CASE WHEN s.outcome = 'complete' THEN s.result ELSE j.result END,
            error = CASE WHEN s.outcome = 'fail' THEN s.error WHEN s.outcome = 'complete' THEN NULL ELSE j.error END,
            fingerprint = CASE WHEN s.outcome = 'fail' THEN s.fingerprint
                               WHEN s.outcome = 'complete' THEN NULL ELSE j.fingerprint END,
            suspect = j.suspect AND s.outcome NOT IN ('complete', 'snooze'),
            shared_crashes = CASE WHEN s.outcome IN ('complete', 'snooze') THEN 0 ELSE j.shared_crashes END,
            deadline_at = NULL,
            settled_as = s.outcome
        FROM (
            SELECT * FROM unnest(settle.ids, settle.leases, settle.outcomes, settle.results, settle.errors,
                                 settle.delays, settle.fingerprints)
                AS u (id, lease, outcome, result, error, delay, fingerprint)
            ORDER BY u.id) s
        WHERE j.id = s.id AND j.lease = s.lease AND j.worker_id = settle.worker_id
          AND j.status IS NOT DISTINCT FROM 'running'
        RETURNING j.id, j.status, j.lease, j.attempts, j.error, j.run_at, j.claimed_at, j.fingerprint, s.outcome
    ), noted AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT t.id, _now, CASE t.outcome WHEN 'fail' THEN 'failure' ELSE 'snooze' END, t.outcome, t.lease,
               settle.worker_id,
               jsonb_strip_nulls(jsonb_build_object('status', t.status, 'attempt', t.attempts, 'fingerprint', t.fingerprint,
                   'claimed_at', t.claimed_at,
                   'error', CASE WHEN t.outcome = 'fail' THEN t.error END,
                   'run_at', CASE WHEN t.status = 'queued' THEN t.run_at END))
        FROM settled t
        WHERE t.outcome IN ('fail', 'snooze')
    )
    SELECT coalesce(array_agg(t.id), '{}'), array_agg(t.lease), array_agg(t.outcome), array_agg(t.status)
    INTO _ids, _leases, _outcomes, _statuses
    FROM settled t;

    RETURN QUERY
    SELECT a.id, a.lease, 'applied', a.status
    FROM unnest(_ids, _leases, _statuses) AS a (id, lease, status);
    IF cardinality(_ids) = _count THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH rest AS MATERIALIZED (
        SELECT s.id, s.lease, s.outcome, j.id IS NOT NULL AS found, j.status,
               coalesce(j.lease = s.lease AND j.worker_id = settle.worker_id AND j.settled_as = s.outcome, false)
               OR EXISTS (
                   SELECT FROM holdfast.job_events e
                   WHERE e.job_id = s.id AND e.lease = s.lease AND e.worker_id = settle.worker_id
                     AND e.event IN ('failure', 'snooze') AND e.reason = s.outcome) AS repeated
        FROM unnest(settle.ids, settle.leases, settle.outcomes) AS s (id, lease, outcome)
        CROSS JOIN LATERAL (SELECT array_position(_ids, s.id) AS place) a
        LEFT JOIN holdfast.jobs j ON j.id = s.id
        WHERE NOT coalesce(_leases[a.place] = s.lease AND _outcomes[a.place] = s.outcome, false)
    ), fenced AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT r.id, _now, 'fenced_late_write', r.outcome, r.lease, settle.worker_id, jsonb_build_object('status', r.status)
        FROM rest r
        WHERE r.found AND NOT r.repeated AND r.outcome <> 'release'
    )
    SELECT r.id, r.lease, CASE WHEN r.repeated THEN 'already' ELSE 'lost' END, r.status
    FROM rest r;
END
$function$;
