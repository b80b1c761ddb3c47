-- The rate limit for every other language: ask for one request of `key` (a user, an address) to be admitted, at most
-- `max_requests` in any window of so many seconds, over all callers of any language.
--     SELECT allowed, retry_after FROM holdfast.check_rate_limit('user:42', 100, 60);
-- The count is shared with Python's limiter where the policy's name is the same; by default both call it by its numbers.
-- Call it outside the transaction of the work itself: the identity's row is locked until the commit, and a rollback takes
-- the count back. Returns what is left, and seconds until the same request fits and until all of it is free again.
CREATE OR REPLACE FUNCTION holdfast.check_rate_limit(
    key text, max_requests integer, window_seconds double precision DEFAULT 60, cost integer DEFAULT 1,
    policy text DEFAULT NULL
) RETURNS TABLE (allowed boolean, "limit" integer, remaining integer, retry_after double precision,
                 reset_after double precision)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    _name   text := coalesce(policy, max_requests || ';w=' || trim_scale(round(window_seconds::numeric, 6)));
    _answer record;
BEGIN
    IF key IS NULL OR max_requests IS NULL OR NOT max_requests BETWEEN 1 AND 1000000000
       OR window_seconds IS NULL OR NOT window_seconds BETWEEN 0.001 AND 2678400
       OR cost IS NULL OR NOT cost BETWEEN 1 AND max_requests THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format(
            'check_rate_limit(key %L, max_requests %s, window_seconds %s, cost %s): max_requests must be from 1 to'
            ' 1000000000, the window from a millisecond to 31 days, the cost from 1 to max_requests',
            left(key, 60), max_requests, window_seconds, cost);
    END IF;
    SELECT h.* INTO _answer
    FROM holdfast.rate_limit_hits(
        ARRAY[_name], ARRAY[1], ARRAY[1], ARRAY[max_requests], ARRAY[(window_seconds * 1000000)::bigint], ARRAY['log'],
        ARRAY[0], ARRAY[holdfast.rate_limit_key(key)], costs => ARRAY[cost]) h;
    "limit" := coalesce((_answer.rule -> 0 ->> 0)::integer, max_requests);
    IF _answer.verdict IS NULL THEN
        allowed := _answer.answer[1] >= cost;
        remaining := _answer.answer[3];
        retry_after := CASE WHEN allowed THEN 0 ELSE _answer.answer[4] / 1e6 END;
        reset_after := _answer.answer[5] / 1e6;
    ELSE
        allowed := _answer.verdict = 'allow';
        remaining := CASE WHEN allowed THEN max_requests ELSE 0 END;
        retry_after := CASE WHEN allowed THEN 0 ELSE coalesce(_answer.answer[3] / 1e6, window_seconds) END;
        reset_after := retry_after;
    END IF;
    RETURN NEXT;
END
$function$;
