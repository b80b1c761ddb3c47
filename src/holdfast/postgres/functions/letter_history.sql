-- The lives of a dead letter: the redrives that it was in, who asked for them, and what became of it; and those of the letters that
-- it was before, and came back as. The oldest first; 100 lives and 200 redrives at most.
CREATE OR REPLACE FUNCTION holdfast.letter_history(letter uuid)
RETURNS TABLE (
    letter_id uuid, returns integer, first_seen_at timestamptz, redrive_id uuid, requested_by text, at timestamptz, status text,
    detail text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE before AS (
        SELECT d.id, d.earlier_id, 0 AS depth FROM holdfast.dead_letters d WHERE d.id = letter_history.letter
        UNION ALL
        SELECT e.id, e.earlier_id, b.depth + 1 FROM before b JOIN holdfast.dead_letters e ON e.id = b.earlier_id WHERE b.depth < 100
    ), after AS (
        SELECT d.id, 0 AS depth FROM holdfast.dead_letters d WHERE d.id = letter_history.letter
        UNION ALL
        SELECT l.id, a.depth + 1 FROM after a JOIN holdfast.dead_letters l ON l.earlier_id = a.id WHERE a.depth < 100
    )
    SELECT d.id, d.returns, d.first_seen_at, r.id, r.requested_by, i.at, i.status, i.detail
    FROM holdfast.dead_letters d
    LEFT JOIN holdfast.redrive_letters i ON i.letter_id = d.id
    LEFT JOIN holdfast.redrives r ON r.id = i.redrive_id
    WHERE d.id IN (SELECT b.id FROM before b UNION SELECT a.id FROM after a)
    ORDER BY d.first_seen_at, i.at
    LIMIT 200;
$function$;
