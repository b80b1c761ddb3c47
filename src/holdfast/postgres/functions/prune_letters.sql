-- Forget what was decided, delivered and over long ago: dead letters that are gone, redrives that have ended with their letters,
-- delivered notifications, resolved incidents, and dead-letter queues that nobody looks at. What is still to be decided about stays,
-- however old. One bounded step; returns how many rows went.
CREATE OR REPLACE FUNCTION holdfast.prune_letters(keep interval DEFAULT '90 days', max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH letters AS (
        DELETE FROM holdfast.dead_letters d
        USING (SELECT o.id FROM holdfast.dead_letters o
               WHERE o.gone_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE d.id = old.id
        RETURNING 1
    ), ended AS (
        SELECT o.id FROM holdfast.redrives o
        WHERE o.finished_at < (SELECT holdfast.clock()) - keep ORDER BY o.finished_at LIMIT 10
    ), parts AS (
        DELETE FROM holdfast.redrive_letters l
        USING (SELECT p.redrive_id, p.position FROM holdfast.redrive_letters p
               WHERE p.redrive_id IN (SELECT e.id FROM ended e) LIMIT max_rows) old
        WHERE l.redrive_id = old.redrive_id AND l.position = old.position
        RETURNING 1
    ), redrives AS (
        DELETE FROM holdfast.redrives r
        USING ended e
        WHERE r.id = e.id AND NOT EXISTS (SELECT FROM holdfast.redrive_letters l WHERE l.redrive_id = r.id)
        RETURNING 1
    ), told AS (
        DELETE FROM holdfast.notifications n
        USING (SELECT o.id FROM holdfast.notifications o
               WHERE o.delivered_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE n.id = old.id
        RETURNING 1
    ), incidents AS (
        DELETE FROM holdfast.incidents i
        USING (SELECT o.id FROM holdfast.incidents o
               WHERE o.status = 'resolved' AND o.changed_at < (SELECT holdfast.clock()) - keep LIMIT max_rows) old
        WHERE i.id = old.id
        RETURNING 1
    ), queues AS (
        DELETE FROM holdfast.dead_letter_queues q
        WHERE q.looked_at < (SELECT holdfast.clock()) - greatest(keep, interval '7 days')
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM letters) + (SELECT count(*) FROM parts) + (SELECT count(*) FROM redrives)
         + (SELECT count(*) FROM told) + (SELECT count(*) FROM incidents) + (SELECT count(*) FROM queues);
$function$;
