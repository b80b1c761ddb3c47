-- How many letters of a redrive are where. `same` of those that returned did so with the cause that they had before.
CREATE OR REPLACE FUNCTION holdfast.redrive_counts(redrive uuid)
RETURNS TABLE (
    waiting integer, sending integer, sent integer, succeeded integer, returned integer, same integer, skipped integer,
    failed integer, remaining integer)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT (count(*) FILTER (WHERE l.status = 'waiting'))::integer, (count(*) FILTER (WHERE l.status = 'sending'))::integer,
           (count(*) FILTER (WHERE l.status = 'sent'))::integer, (count(*) FILTER (WHERE l.status = 'succeeded'))::integer,
           (count(*) FILTER (WHERE l.status = 'returned'))::integer,
           (count(*) FILTER (WHERE l.status = 'returned' AND l.detail = 'the same cause'))::integer,
           (count(*) FILTER (WHERE l.status = 'skipped'))::integer, (count(*) FILTER (WHERE l.status = 'failed'))::integer,
           (count(*) FILTER (WHERE l.status = 'left'))::integer
    FROM holdfast.redrive_letters l
    WHERE l.redrive_id = redrive;
$function$;
