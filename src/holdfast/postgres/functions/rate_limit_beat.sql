-- A limiting process's sign of life, each second: what it has to tell, and what it must know. It tells what was decided
-- since the last beat (`decisions` of each policy, source and outcome) and how often it refused identities by itself;
-- it learns the secret of the hashes, the generation (when that has grown, it forgets what it remembers), and how many
-- processes live, itself included. Whether there are too many identities is looked at here: the planner's count of rows,
-- which costs nothing, is a second late.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_beat(
    instance uuid, policies text[] DEFAULT '{}', sources text[] DEFAULT '{}', outcomes text[] DEFAULT '{}',
    decisions bigint[] DEFAULT '{}', refused_policies text[] DEFAULT '{}', refused_keys uuid[] DEFAULT '{}',
    refusals bigint[] DEFAULT '{}', max_identities bigint DEFAULT 2000000
) RETURNS TABLE (secret bytea, generation bigint, instances integer, is_full boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now  timestamptz := holdfast.clock();
    _full boolean := pg_stat_get_live_tuples('holdfast.rate_limit_requests'::regclass) >= max_identities;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO holdfast.rate_limit_instances AS i (id, seen_at) VALUES (instance, _now)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at;
    DELETE FROM holdfast.rate_limit_instances i WHERE i.seen_at < _now - interval '1 minute';

    INSERT INTO holdfast.rate_limit_totals AS t (policy, source, outcome, decisions, last_at)
    SELECT a.policy, a.source, a.outcome, a.decisions, _now
    FROM unnest(policies, sources, outcomes, decisions) AS a (policy, source, outcome, decisions)
    ORDER BY 1, 2, 3
    ON CONFLICT (policy, source, outcome) DO UPDATE
    SET decisions = t.decisions + excluded.decisions, last_at = excluded.last_at;

    UPDATE holdfast.rate_limit_requests r SET refused = r.refused + l.refusals
    FROM (SELECT q.policy, q.key, a.refusals
          FROM unnest(refused_policies, refused_keys, refusals) AS a (policy, key, refusals)
          JOIN holdfast.rate_limit_requests q ON q.policy = a.policy AND q.key = a.key
          ORDER BY q.policy, q.key FOR UPDATE OF q SKIP LOCKED) l
    WHERE r.policy = l.policy AND r.key = l.key;

    UPDATE holdfast.rate_limit_state s SET is_full = _full WHERE s.is_full <> _full;
    RETURN QUERY
    SELECT s.secret, s.generation,
           (SELECT count(*)::integer FROM holdfast.rate_limit_instances i WHERE i.seen_at > _now - interval '10 s'), _full
    FROM holdfast.rate_limit_state s;
END
$function$;
