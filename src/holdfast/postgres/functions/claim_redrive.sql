-- Take a redrive that nobody works at, or renew one's own; `one` of them. The one that was taken longest ago comes first: none that
-- only waits for outcomes stands before the others. For `lease` nobody else takes it.
-- How far it is: counts of its letters by status, of the canary those with a known good outcome, and how long ago it began at its
-- rate (with how many sent before) and its canary was sent, in seconds.
CREATE OR REPLACE FUNCTION holdfast.claim_redrive(owner uuid, lease interval, one uuid DEFAULT NULL)
RETURNS TABLE (
    id uuid, status text, requested_by text, target text, canary integer, canary_wait double precision, canary_done boolean,
    rate double precision, total integer, waiting integer, sending integer, sent integer, succeeded integer, returned integer,
    same integer, skipped integer, failed integer, began_with integer, began_ago double precision, canary_ago double precision)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _id  uuid;
BEGIN
    UPDATE holdfast.redrives AS r
    SET owner = claim_redrive.owner, lease_until = _now + lease
    WHERE r.id = (
        SELECT c.id FROM holdfast.redrives c
        WHERE c.finished_at IS NULL AND c.status <> 'paused' AND (one IS NULL OR c.id = one)
          AND (c.owner IS NULL OR c.owner = claim_redrive.owner OR c.lease_until < _now)
        ORDER BY c.lease_until NULLS FIRST, c.created_at, c.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED)
    RETURNING r.id INTO _id;
    IF _id IS NULL THEN
        RETURN;
    END IF;
    PERFORM holdfast.judge_redrive(_id);
    RETURN QUERY
    SELECT r.id, r.status, r.requested_by, r.target, r.canary, extract(epoch FROM r.canary_wait)::double precision, r.canary_done,
           r.rate, r.total, c.waiting, c.sending, c.sent, c.succeeded, c.returned, c.same, c.skipped, c.failed, r.began_with,
           extract(epoch FROM _now - r.began_at)::double precision, extract(epoch FROM _now - r.canary_at)::double precision
    FROM holdfast.redrives r
    CROSS JOIN LATERAL holdfast.redrive_counts(r.id) c
    WHERE r.id = _id;
END
$function$;
