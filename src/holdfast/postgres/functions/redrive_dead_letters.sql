-- Ask for a redrive: the letters that the filter means now (`matching_letters`) are written down, and these and no others are
-- sent. opts: {by, note, target, canary, canary_wait, rate, quarantine_after, at_most}. Letters of a redrive that is under way are
-- left to it; what came back `quarantine_after` times is left out, unless it was asked for by its id. Asked for again with the
-- same id, it is the redrive that is there. Returns how many letters it has, and how many were left out, and why.
CREATE OR REPLACE FUNCTION holdfast.redrive_dead_letters(id uuid, filter jsonb, opts jsonb DEFAULT '{}')
RETURNS TABLE (total integer, quarantined integer, busy integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _after integer := coalesce((opts ->> 'quarantine_after')::integer, 3);
BEGIN
    SELECT r.total, 0, 0 INTO total, quarantined, busy FROM holdfast.redrives r WHERE r.id = redrive_dead_letters.id;
    IF FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    WITH wanted AS MATERIALIZED (
        SELECT m.id, m.sent_at, m.first_seen_at,
               m.redrive_id IN (SELECT r.id FROM holdfast.redrives r WHERE r.finished_at IS NULL) AS is_busy,
               m.returns >= _after AND NOT coalesce(filter -> 'ids' ? m.id::text OR filter -> 'ids' ? m.job_id, false) AS is_poison
        FROM holdfast.dead_letters m
        WHERE m.id IN (SELECT f.id FROM holdfast.matching_letters(redrive_dead_letters.filter - 'gone') f
                       LIMIT coalesce((opts ->> 'at_most')::integer, 1000000))
        FOR UPDATE
    ), written AS (
        INSERT INTO holdfast.redrive_letters (redrive_id, position, letter_id, at)
        SELECT redrive_dead_letters.id, row_number() OVER (ORDER BY coalesce(w.sent_at, w.first_seen_at), w.id), w.id, _now
        FROM wanted w
        WHERE w.is_busy IS NOT TRUE AND NOT w.is_poison
        RETURNING letter_id
    ), marked AS (
        UPDATE holdfast.dead_letters AS d SET redrive_id = redrive_dead_letters.id
        FROM written w WHERE d.id = w.letter_id
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM marked), count(*) FILTER (WHERE w.is_poison AND w.is_busy IS NOT TRUE),
           count(*) FILTER (WHERE w.is_busy)
    INTO total, quarantined, busy
    FROM wanted w;
    INSERT INTO holdfast.redrives (id, status, requested_by, note, filter, target, canary, canary_wait, rate, total, created_at,
        changed_at, began_at, finished_at)
    VALUES (redrive_dead_letters.id, CASE WHEN total = 0 THEN 'done' ELSE 'running' END, left(coalesce(opts ->> 'by', ''), 200),
            left(opts ->> 'note', 2000), redrive_dead_letters.filter, opts ->> 'target', coalesce((opts ->> 'canary')::integer, 0),
            coalesce((opts ->> 'canary_wait')::interval, '5 minutes'), (opts ->> 'rate')::double precision, total, _now, _now, _now,
            CASE WHEN total = 0 THEN _now END);
    RETURN NEXT;
END
$function$;
