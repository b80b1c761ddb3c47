-- The next messages of a redrive, to be sent by whoever holds it. Those that somebody was about to send when he died come first,
-- `again` true: they may have been sent. What is not captured (`captured` false) still lies in its queue, and is to be taken out
-- of there first.
CREATE OR REPLACE FUNCTION holdfast.take_redrive_messages(redrive uuid, owner uuid, max_letters integer)
RETURNS TABLE (letter_id uuid, queue text, key text, body text, original jsonb, returns integer, captured boolean, again boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM FROM holdfast.redrives r
    WHERE r.id = redrive AND r.owner = take_redrive_messages.owner AND r.finished_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH next AS (
        SELECT l.position, l.status
        FROM holdfast.redrive_letters l
        JOIN holdfast.dead_letters d ON d.id = l.letter_id
        WHERE l.redrive_id = redrive AND l.status IN ('waiting', 'sending') AND d.source = 'sqs'
        ORDER BY l.status, l.position
        LIMIT max_letters
    ), taken AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = 'sending', at = (SELECT holdfast.clock())
        FROM next n
        WHERE l.redrive_id = redrive AND l.position = n.position
        RETURNING l.letter_id, n.status AS was
    )
    SELECT d.id, d.queue, d.key, d.body, d.original, d.returns, d.captured_at IS NOT NULL, t.was = 'sending'
    FROM taken t JOIN holdfast.dead_letters d ON d.id = t.letter_id;
END
$function$;
