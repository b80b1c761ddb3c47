-- The schema's catalog (see schema_catalog) as one value, [[kind, name, definition], ...]: over HTTPS an answer has at most
-- 1,000 rows, by Supabase's default, and a schema with more objects would seem to lack the rest.
CREATE OR REPLACE FUNCTION holdfast.describe_schema() RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_agg(jsonb_build_array(c.kind, c.name, c.definition)) FROM holdfast.schema_catalog() AS c
$function$;
