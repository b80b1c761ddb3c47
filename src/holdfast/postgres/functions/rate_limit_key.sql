-- What an identity is called in the tables: a keyed hash, so that neither a copy of the counts nor a server's log
-- tells an address. Programs in Python make the same one themselves; the inner hash keeps anybody from extending it, and
-- keys of more than 200 characters are remembered by their hash there.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_key(identity text) RETURNS uuid
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(substr(sha256(s.secret || sha256(s.secret || convert_to(f.key, 'UTF8'))), 1, 16), 'hex')::uuid
    FROM holdfast.rate_limit_state s,
         (SELECT CASE WHEN char_length(identity) <= 200 THEN identity
                 ELSE encode(substr(sha256(sha256(convert_to(identity, 'UTF8'))), 1, 16), 'hex') END AS key) f
$function$;
