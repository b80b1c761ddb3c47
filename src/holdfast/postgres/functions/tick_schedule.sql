-- One tick of a schedule, over all processes: the compare-and-set on next_at and the job are one transaction. Whoever
-- comes second finds another next_at and has lost. `next_at` is the first tick after now, not after `seen_at`: so the
-- ticks of an outage become one.
-- Where jobs of a schedule must not overlap, a tick finds that of the tick before still queued or running, and passes.
-- opts: as of enqueue. Verdict: enqueued (job_id is the new one) | overlapped (job_id is the one before) | lost.
CREATE OR REPLACE FUNCTION holdfast.tick_schedule(
    name text, seen_at timestamptz, next_at timestamptz, id uuid, args jsonb, opts jsonb DEFAULT '{}'
) RETURNS TABLE (verdict text, job_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _schedule record;
    _job      record;
BEGIN
    UPDATE holdfast.schedules AS s
    SET next_at = tick_schedule.next_at, last_at = tick_schedule.seen_at
    WHERE s.name = tick_schedule.name AND s.next_at = tick_schedule.seen_at AND s.next_at <= _now AND NOT s.paused
    RETURNING s.queue, s.kind, s.overlap, s.last_job_id INTO _schedule;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'lost', NULL::uuid;
        RETURN;
    END IF;

    IF NOT _schedule.overlap THEN
        SELECT j.id AS job_id, false AS created INTO _job
        FROM holdfast.jobs j
        WHERE j.id = _schedule.last_job_id AND j.status IN ('queued', 'running');
    END IF;
    IF _schedule.overlap OR NOT FOUND THEN
        SELECT e.job_id, e.created INTO _job
        FROM holdfast.enqueue(tick_schedule.id, _schedule.queue, _schedule.kind, tick_schedule.args, tick_schedule.opts) AS e;
    END IF;

    UPDATE holdfast.schedules AS s
    SET last_job_id = _job.job_id, last_result = CASE WHEN _job.created THEN 'enqueued' ELSE 'overlapped' END
    WHERE s.name = tick_schedule.name;
    RETURN QUERY SELECT CASE WHEN _job.created THEN 'enqueued' ELSE 'overlapped' END, _job.job_id;
END
$function$;
