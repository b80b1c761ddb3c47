-- Refuses what would change the audit log: it only grows. Rows may go after 400 days.
CREATE OR REPLACE FUNCTION holdfast.guard_audit_log() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < holdfast.clock() - interval '400 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = '42501', HINT = 'Rows may be removed after 400 days.';
END
$function$;
