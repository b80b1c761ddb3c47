-- What became of a try: delivered (no error), or to be tried again after a while. The error holds no secret.
CREATE OR REPLACE FUNCTION holdfast.settle_notification(id uuid, error text, again_after interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE holdfast.notifications AS n
    SET delivered_at = CASE WHEN settle_notification.error IS NULL THEN holdfast.clock() END,
        error = settle_notification.error,
        due_at = coalesce(holdfast.clock() + again_after, n.due_at)
    WHERE n.id = settle_notification.id AND n.delivered_at IS NULL;
    RETURN FOUND;
END
$function$;
