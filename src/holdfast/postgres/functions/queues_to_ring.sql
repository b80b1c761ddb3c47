-- Which queues need bells now, and how many: as many as jobs are due, as many workers as have a free slot could take them,
-- whichever is less. A queue is rung again when it was claimed from since its last bell, or else after `again_after`: a bell
-- may have been lost. Due jobs are looked for by walking the claim index, 200 probes a queue at most. Marks what it returns as
-- rung; what another ringer is just looking at is left to it.
CREATE OR REPLACE FUNCTION holdfast.queues_to_ring(again_after interval DEFAULT '15 seconds', max_bells integer DEFAULT 10)
RETURNS TABLE (queue text, bells integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _queue record;
    _idle  integer;
    _due   integer;
BEGIN
    FOR _queue IN
        SELECT q.name FROM holdfast.queues q
        WHERE NOT q.paused
          AND (q.rung_at IS NULL OR q.rung_at <= q.claimed_at OR q.rung_at < _now - again_after)
        ORDER BY q.name
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
    LOOP
        SELECT count(*) INTO _idle
        FROM holdfast.workers w
        WHERE w.gone_at IS NULL AND NOT w.draining AND NOT w.quarantine AND w.running < w.slots
          AND w.seen_at + w.lost_after > _now AND _queue.name = ANY (w.queues);
        CONTINUE WHEN _idle = 0;

        WITH RECURSIVE step AS (
            (SELECT j.kind, j.lane, j.priority, j.run_at, 1 AS n
             FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue = _queue.name
             ORDER BY j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1)
            UNION ALL
            SELECT f.kind, f.lane, f.priority, f.run_at, s.n + 1
            FROM step s
            CROSS JOIN LATERAL (
                SELECT j.kind, j.lane, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = _queue.name
                  AND (j.kind, j.lane, j.priority) > (s.kind, s.lane, s.priority)
                ORDER BY j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1) f
            WHERE s.n < 200
        )
        SELECT coalesce(sum((SELECT count(*) FROM (
                   SELECT FROM holdfast.jobs j
                   WHERE j.status = 'queued' AND j.queue = _queue.name AND j.kind = s.kind AND j.lane = s.lane
                     AND j.priority = s.priority AND j.run_at <= _now
                   LIMIT max_bells) d)), 0)
        INTO _due
        FROM step s WHERE s.run_at <= _now;
        CONTINUE WHEN _due = 0;

        UPDATE holdfast.queues AS q SET rung_at = _now WHERE q.name = _queue.name;
        queue := _queue.name;
        bells := least(_due, _idle, max_bells);
        RETURN NEXT;
    END LOOP;
END
$function$;
