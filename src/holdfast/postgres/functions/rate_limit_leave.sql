-- A limiting process ends: its share goes to the others.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_leave(instance uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM holdfast.rate_limit_instances i WHERE i.id = instance
$function$;
