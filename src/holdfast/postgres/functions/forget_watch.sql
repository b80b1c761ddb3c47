-- A watched table was taken out of the settings: nobody misses the looks at it from now on. What was done to its rows is kept its
-- time, and messages that wait are sent. A process that still watches it brings it back with its next look.
CREATE OR REPLACE FUNCTION holdfast.forget_watch(name text) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DELETE FROM holdfast.watches AS k WHERE k.name = forget_watch.name RETURNING k.name;
$function$;
