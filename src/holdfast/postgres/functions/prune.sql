-- Remove what retention no longer keeps: one bounded step, to be repeated while it removes as much as it may.
-- Succeeded and cancelled jobs go after keep_finished, dead ones after keep_dead, each with its events; workers that have been
-- gone for a day and hold nothing go too. A locked row waits for the next time. Walks the index on finished_at from the
-- oldest on; (after, after_id) is the keyset, the last row looked at, since dead jobs that are kept stand in
-- between.
CREATE OR REPLACE FUNCTION holdfast.prune(
    keep_finished interval DEFAULT '7 days', keep_dead interval DEFAULT '90 days', max_jobs integer DEFAULT 1000,
    after timestamptz DEFAULT '-infinity', after_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'
) RETURNS TABLE (finished integer, dead integer, workers integer, looked_at integer, last_at timestamptz, last_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _old uuid[];
BEGIN
    SELECT count(*), max(o.finished_at), (array_agg(o.id ORDER BY o.finished_at DESC, o.id DESC))[1],
           array_agg(o.id) FILTER (WHERE o.finished_at < _now - CASE o.status WHEN 'dead' THEN keep_dead ELSE keep_finished END)
    INTO looked_at, last_at, last_id, _old
    FROM (
        SELECT j.id, j.status, j.finished_at
        FROM holdfast.jobs j
        WHERE j.status IN ('succeeded', 'dead', 'cancelled')
          AND (j.finished_at, j.id) > (prune.after, prune.after_id) AND j.finished_at < _now - least(keep_finished, keep_dead)
        ORDER BY j.finished_at, j.id
        LIMIT max_jobs
        FOR UPDATE SKIP LOCKED) o;

    WITH removed AS (
        DELETE FROM holdfast.jobs j WHERE j.id = ANY (_old) RETURNING j.status
    )
    SELECT count(*) FILTER (WHERE r.status <> 'dead'), count(*) FILTER (WHERE r.status = 'dead')
    INTO finished, dead
    FROM removed r;
    DELETE FROM holdfast.job_events e WHERE e.job_id = ANY (_old);

    WITH removed AS (
        DELETE FROM holdfast.workers w
        WHERE w.gone_at < _now - interval '1 day'
          AND NOT EXISTS (SELECT FROM holdfast.jobs j WHERE j.status = 'running' AND j.worker_id = w.id)
        RETURNING w.id
    )
    SELECT count(*) INTO workers FROM removed;
    RETURN NEXT;
END
$function$;
