-- Decide for many identities at once: one statement a round trip. Identity number `place` asks for wanted[place]
-- requests of costs[place] units under policy number which[place], whose limits are those from firsts to lasts of the
-- next four arrays; where an array is left out, it is 1 for everybody, and debts are 0. An identity may stand in one
-- call only once. The rule itself is rate_limit_step; rows are locked in the order of their keys; the clock is the
-- database's, read once.
-- A row that does not exist is written undecided and decided in a second round: to decide it in the first would cost
-- every existing row a second run of the rule.
-- With `durable` off the commit need not be on disk: after a crash of Postgres, what was granted in its last moments
-- (under a second) may be granted again. It stays off for the whole transaction, so only a limiter's own connection says so.
-- While there are too many identities, those without a row share 4096 rows, so that inventing them fills no disk.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_hits(
    policies text[], firsts integer[], lasts integer[], mosts integer[], spans bigint[], kinds text[], bursts integer[],
    keys uuid[], which integer[] DEFAULT NULL, costs integer[] DEFAULT NULL, wanted integer[] DEFAULT NULL,
    debts integer[] DEFAULT NULL, durable boolean DEFAULT true
) RETURNS TABLE (place integer, answer bigint[], verdict text, rule jsonb)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now   timestamptz := holdfast.clock();
    _micro bigint := (extract(epoch FROM _now) * 1000000)::bigint;
    _open  integer[];
    _later integer[] := '{}';
    _again integer[];
    _ruled boolean;
    _full  boolean;
    _given integer := cardinality(policies);
    _found record;
BEGIN
    IF NOT durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    _open := ARRAY(SELECT generate_series(1, cardinality(keys)));
    SELECT s.is_full, EXISTS (SELECT FROM holdfast.rate_limit_rules) INTO _full, _ruled FROM holdfast.rate_limit_state s;

    IF _ruled THEN
        which := coalesce(which, array_fill(1, ARRAY[cardinality(keys)]));
        FOR _found IN
            SELECT o.place, r.verdict, r.until, r.mosts, r.spans, r.kinds, r.bursts
            FROM unnest(_open) AS o (place), holdfast.rate_limit_rule(policies[which[o.place]], keys[o.place]) r
        LOOP
            IF _found.verdict = 'limit' THEN
                policies := policies || policies[which[_found.place]];
                which[_found.place] := cardinality(policies);
                firsts := firsts || cardinality(mosts) + 1;
                mosts := mosts || _found.mosts;
                spans := spans || _found.spans;
                kinds := kinds || _found.kinds;
                bursts := bursts || _found.bursts;
                lasts := lasts || cardinality(mosts);
            ELSE
                _open := array_remove(_open, _found.place);
                place := _found.place;
                verdict := _found.verdict;
                answer := ARRAY[
                    CASE verdict WHEN 'allow' THEN coalesce(wanted[place], 1)::bigint * coalesce(costs[place], 1) ELSE 0 END,
                    _micro,
                    (extract(epoch FROM _found.until - _now) * 1000000)::bigint];
                RETURN NEXT;
            END IF;
        END LOOP;
        verdict := NULL;
    END IF;

    IF _full THEN
        FOR _found IN
            SELECT o.place FROM unnest(_open) AS o (place)
            WHERE NOT EXISTS (SELECT FROM holdfast.rate_limit_requests r
                              WHERE r.policy = policies[coalesce(which[o.place], 1)] AND r.key = keys[o.place])
        LOOP
            keys[_found.place] := rpad(left(keys[_found.place]::text, 3), 32, '0')::uuid;
        END LOOP;
    END IF;

    WHILE cardinality(_open) > 0 LOOP
        _again := '{}';
        IF _full THEN
            _later := _open;
            _open := ARRAY(SELECT DISTINCT ON (policies[coalesce(which[o.place], 1)], keys[o.place]) o.place
                           FROM unnest(_open) AS o (place));
            _later := ARRAY(SELECT l.place FROM unnest(_later) AS l (place) WHERE l.place <> ALL (_open));
        END IF;
        FOR place, answer, rule IN
            INSERT INTO holdfast.rate_limit_requests AS r (policy, key, base, stamps, sums, refused, place, expires_at)
            SELECT policies[coalesce(which[o.place], 1)], keys[o.place], 0, '{}', '{}', 0, o.place, _now
            FROM unnest(_open) AS o (place)
            ORDER BY 1, 2
            ON CONFLICT (policy, key) DO UPDATE
            SET (base, stamps, sums, marks, refused, place, granted, answer, expires_at) = (
                SELECT (d.s).base, (d.s).stamps, (d.s).sums, (d.s).marks,
                       r.refused + coalesce(wanted[excluded.place], 1)
                           - (d.s).granted / coalesce(costs[excluded.place], 1),
                       excluded.place, (d.s).granted, (d.s).answer,
                       _now + make_interval(secs => ((d.s).idle_at - _micro) / 1e6)
                FROM (SELECT holdfast.rate_limit_step(
                          _micro, r.base, r.stamps, r.sums, r.marks, mosts, spans, kinds, bursts,
                          firsts[coalesce(which[excluded.place], 1)], lasts[coalesce(which[excluded.place], 1)],
                          coalesce(costs[excluded.place], 1), coalesce(wanted[excluded.place], 1),
                          coalesce(debts[excluded.place], 0)) AS s OFFSET 0) d)
            RETURNING r.place, r.answer, NULL::jsonb
        LOOP
            IF answer IS NULL THEN
                _again := _again || place;
                CONTINUE;
            END IF;
            IF which[place] > _given THEN
                rule := jsonb_build_array(
                    mosts[firsts[which[place]] : lasts[which[place]]], spans[firsts[which[place]] : lasts[which[place]]],
                    kinds[firsts[which[place]] : lasts[which[place]]], bursts[firsts[which[place]] : lasts[which[place]]]);
            END IF;
            RETURN NEXT;
        END LOOP;
        _open := _again || _later;
        _later := '{}';
    END LOOP;
END
$function$;
