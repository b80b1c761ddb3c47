-- Put an identity on a list, or give it other limits, until then or for ever; verdict NULL takes a rule away. Processes
-- that remember otherwise learn of it with their next beat, within a second. Whether anything changed.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_set_rule(
    policy_name text, identity uuid, new_verdict text, lasts_for interval DEFAULT NULL, new_note text DEFAULT NULL,
    mosts integer[] DEFAULT NULL, spans bigint[] DEFAULT NULL, kinds text[] DEFAULT NULL, bursts integer[] DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _changed boolean := true;
BEGIN
    IF new_verdict IS NULL THEN
        DELETE FROM holdfast.rate_limit_rules r WHERE r.policy = policy_name AND r.key = identity;
        _changed := FOUND;
    ELSE
        INSERT INTO holdfast.rate_limit_rules AS r
            (policy, key, verdict, mosts, spans, kinds, bursts, until, note, created_at)
        VALUES (policy_name, identity, new_verdict, mosts, spans, kinds, bursts, holdfast.clock() + lasts_for, new_note,
                holdfast.clock())
        ON CONFLICT (policy, key) DO UPDATE
        SET verdict = excluded.verdict, mosts = excluded.mosts, spans = excluded.spans, kinds = excluded.kinds,
            bursts = excluded.bursts, until = excluded.until, note = excluded.note, created_at = excluded.created_at;
    END IF;
    UPDATE holdfast.rate_limit_state s SET generation = s.generation + 1;
    RETURN _changed;
END
$function$;
