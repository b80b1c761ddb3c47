-- Somebody decides that the letters of a filter (`matching_letters`) need no more doing. Each stays in the ledger, with who said so and
-- why; jobs stay dead. Those of a redrive that is under way are left to it. Returns how many.
CREATE OR REPLACE FUNCTION holdfast.discard_dead_letters(filter jsonb, by text, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _done bigint;
BEGIN
    IF coalesce(btrim(discard_dead_letters.reason), '') = '' THEN
        RAISE EXCEPTION 'discarding dead letters needs a reason: it is kept with them' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE holdfast.dead_letters AS d
    SET gone_at = _now, outcome = 'discarded', outcome_at = _now, outcome_by = left(discard_dead_letters.by, 200),
        -- Nobody need be told of it any more.
        outcome_reason = left(discard_dead_letters.reason, 2000), incident_id = coalesce(d.incident_id, d.id)
    WHERE d.id IN (SELECT m.id FROM holdfast.matching_letters(discard_dead_letters.filter - 'gone') m)
      AND d.gone_at IS NULL
      AND NOT coalesce(d.redrive_id IN (SELECT r.id FROM holdfast.redrives r WHERE r.finished_at IS NULL), false);
    GET DIAGNOSTICS _done = ROW_COUNT;
    RETURN _done;
END
$function$;
