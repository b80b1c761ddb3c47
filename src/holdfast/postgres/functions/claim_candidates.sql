-- Which jobs a claim should try, in the ledger's order (priority, run_at, id). Reads only, locks nothing.
--
-- The index is (queue, kind, lane, priority, run_at, id). For each lane we walk from one priority that has jobs to
-- the next (a loose index scan: one probe each), and read no more than `wanted` due rows of each. So the cost
-- depends neither on jobs of kinds that this worker does not know, nor on jobs scheduled for later, nor on how
-- many jobs a busy group has queued: none of them is read.
--
-- The floor (priority, run_at, id) is what the worker claimed last. Starting behind it spares the dead index
-- entries of jobs that have left the queue, which nobody can remove while an old snapshot is held open somewhere.
-- Within the floor's own priority it is compared as (run_at, id): beside an equality on priority, a comparison that
-- begins with priority would not be where the scan starts, and it would walk over all of them (no run_at is -infinity,
-- so that floor_id is without effect in the other priorities). It applies to the plain lane only. Without a floor the claim starts at the front: the worker does that about
-- each second, so that urgent newcomers and rescued jobs are seen.
--
-- Groups and limits: at most 1,000 lanes of each queue and kind are looked at. Where there are more, the walk starts at a
-- random lane (`dice`, 0 to 1), so that no lane starves behind a thousand busy ones. Lanes that are busy now are
-- left out here; claim_admit decides under a lock. Suspects share one lane, whatever their group or limit: those that are
-- busy now are passed over row by row.
CREATE OR REPLACE FUNCTION holdfast.claim_candidates(
    queues text[], kinds text[], wanted integer, suspects boolean, due_at timestamptz,
    floor_priority smallint, floor_run_at timestamptz, floor_id uuid, dice double precision
) RETURNS TABLE (id uuid, priority smallint, run_at timestamptz, laned boolean)
LANGUAGE plpgsql STABLE SECURITY INVOKER
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
    _max_lanes CONSTANT integer := 1000;
    _plain     text := CASE WHEN suspects THEN '!' ELSE '' END;
    _from      text := '!';
    _laned     boolean;
BEGIN
    SELECT EXISTS (
        SELECT FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN LATERAL (
            SELECT FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > '!'
            LIMIT 1) probe
    ) AND NOT suspects INTO _laned;

    IF NOT _laned THEN
        RETURN QUERY
        WITH RECURSIVE streams AS (
            SELECT h.queue, h.kind, h.priority, h.run_at,
                   CASE WHEN h.priority = floor_priority THEN floor_run_at ELSE '-infinity' END AS from_run_at
            FROM unnest(claim_candidates.queues) AS q (name)
            CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
            CROSS JOIN LATERAL (
                SELECT j.queue, j.kind, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = _plain
                  AND (j.priority, j.run_at, j.id) > (floor_priority, floor_run_at, floor_id)
                ORDER BY j.priority, j.run_at, j.id
                LIMIT 1) h
            UNION ALL
            SELECT n.queue, n.kind, n.priority, n.run_at, '-infinity'
            FROM streams s
            CROSS JOIN LATERAL (
                SELECT j.queue, j.kind, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
                  AND j.priority > s.priority
                ORDER BY j.priority, j.run_at, j.id
                LIMIT 1) n
        ), busy AS MATERIALIZED (
            SELECT r.limit_key, count(*) AS running
            FROM holdfast.jobs r
            WHERE r.status = 'running' AND r.limit_key IS NOT NULL
            GROUP BY r.limit_key
        )
        SELECT c.id, c.priority, c.run_at, c.limited
        FROM streams s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at, (j.group_key IS NOT NULL OR j.limit_key IS NOT NULL) AS limited
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority = s.priority AND j.run_at <= due_at
              AND (j.run_at, j.id) > (s.from_run_at, floor_id)
              AND (j.group_key IS NULL OR NOT EXISTS (
                SELECT FROM holdfast.jobs r
                WHERE r.status = 'running' AND r.queue = j.queue AND r.group_key = j.group_key))
              AND (j.limit_key IS NULL OR j.limit_max > coalesce(
                (SELECT b.running FROM busy b WHERE b.limit_key = j.limit_key), 0))
            ORDER BY j.run_at, j.id
            LIMIT wanted) c
        WHERE s.run_at <= due_at
        ORDER BY c.priority, c.run_at, c.id
        LIMIT wanted;
        RETURN;
    END IF;

    -- More lanes than we look at? Then begin at a random one.
    IF (SELECT count(*) FROM (
            WITH RECURSIVE lanes AS (
                SELECT h.queue, h.kind, h.lane
                FROM unnest(claim_candidates.queues) AS q (name)
                CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
                CROSS JOIN LATERAL (
                    SELECT j.queue, j.kind, j.lane FROM holdfast.jobs j
                    WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > '!'
                    ORDER BY j.lane LIMIT 1) h
                UNION ALL
                SELECT n.queue, n.kind, n.lane
                FROM lanes s
                CROSS JOIN LATERAL (
                    SELECT j.queue, j.kind, j.lane FROM holdfast.jobs j
                    WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane > s.lane
                    ORDER BY j.lane LIMIT 1) n)
            SELECT FROM lanes LIMIT _max_lanes) bounded) = _max_lanes THEN
        _from := CASE WHEN dice < 0.5 THEN 'g' ELSE 'l' END
            || substr('0123456789abcdef', 1 + (floor(dice * 32))::integer % 16, 1)
            || lpad(to_hex((floor(dice * 32 * 65536))::bigint % 65536), 4, '0');
    END IF;

    RETURN QUERY
    WITH RECURSIVE plain_streams AS (
        SELECT h.queue, h.kind, h.priority, h.run_at,
               CASE WHEN h.priority = floor_priority THEN floor_run_at ELSE '-infinity' END AS from_run_at
        FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = _plain
              AND (j.priority, j.run_at, j.id) > (floor_priority, floor_run_at, floor_id)
            ORDER BY j.priority, j.run_at, j.id
            LIMIT 1) h
        UNION ALL
        SELECT n.queue, n.kind, n.priority, n.run_at, '-infinity'
        FROM plain_streams s
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority > s.priority
            ORDER BY j.priority, j.run_at, j.id
            LIMIT 1) n
    ), lane_streams AS (
        SELECT h.queue, h.kind, h.lane, h.priority, h.run_at
        FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN unnest(ARRAY[_from, CASE WHEN _from > '!' THEN '!' END]) AS f (lane)
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.lane, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > f.lane
            ORDER BY j.lane, j.priority, j.run_at, j.id
            LIMIT 1) h
        UNION ALL
        SELECT n.queue, n.kind, n.lane, n.priority, n.run_at
        FROM lane_streams s
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.lane, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind
              AND (j.lane, j.priority) > (s.lane, s.priority)
            ORDER BY j.lane, j.priority, j.run_at, j.id
            LIMIT 1) n
    ), lanes AS MATERIALIZED (
        SELECT DISTINCT b.queue, b.kind, b.lane, b.priority
        FROM (SELECT * FROM lane_streams LIMIT 2 * _max_lanes) b
        WHERE b.run_at <= due_at
    ), busy AS MATERIALIZED (
        SELECT r.limit_key, count(*) AS running
        FROM holdfast.jobs r
        WHERE r.status = 'running' AND r.limit_key IS NOT NULL
        GROUP BY r.limit_key
    ), every AS (
        SELECT c.id, c.priority, c.run_at, false AS laned
        FROM plain_streams s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority = s.priority AND j.run_at <= due_at
              AND (j.run_at, j.id) > (s.from_run_at, floor_id)
            ORDER BY j.run_at, j.id
            LIMIT wanted) c
        WHERE s.run_at <= due_at
        UNION ALL
        SELECT c.id, c.priority, c.run_at, true
        FROM lanes s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at, j.queue, j.group_key, j.limit_key, j.limit_max
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = s.lane
              AND j.priority = s.priority AND j.run_at <= due_at
            ORDER BY j.run_at, j.id
            LIMIT CASE WHEN s.lane >= 'l' THEN wanted ELSE 1 END) c
        WHERE (c.limit_key IS NULL OR c.limit_max > coalesce(
            (SELECT b.running FROM busy b WHERE b.limit_key = c.limit_key), 0))
          AND (c.group_key IS NULL OR NOT EXISTS (
            SELECT FROM holdfast.jobs r
            WHERE r.status = 'running' AND r.queue = c.queue AND r.group_key = c.group_key))
    )
    SELECT e.id, e.priority, e.run_at, e.laned
    FROM every e
    ORDER BY e.priority, e.run_at, e.id
    LIMIT wanted;
END
$function$;
