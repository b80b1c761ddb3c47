-- Limits the requests that PostgREST (and so Supabase's REST API) serves, as its pre-request function; the count is
-- shared with programs that limit under the same policy. See docs/rate-limits.md for how to switch it on.
-- Who asks: the subject of the JWT as user:SUBJECT, else the rightmost address of X-Forwarded-For that no proxy of ours
-- wrote (`holdfast.rate_limit_hops` proxies stand in front, 1 by default), IPv4 in IPv6 unfolded, IPv6 by its /64.
-- PostgREST runs GET and HEAD in transactions that may not write: they are refused while the identity's limit is used up
-- or it is blocked, and cannot be counted. A refusal rolls back, and so costs nothing.
-- Settings: holdfast.rate_limit_requests (100), holdfast.rate_limit_window (60 seconds), holdfast.rate_limit_policy.
CREATE OR REPLACE FUNCTION holdfast.postgrest_rate_limit() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _max     integer := coalesce(nullif(current_setting('holdfast.rate_limit_requests', true), ''), '100')::integer;
    _window  double precision := coalesce(nullif(current_setting('holdfast.rate_limit_window', true), ''), '60')::double precision;
    _policy  text := coalesce(nullif(current_setting('holdfast.rate_limit_policy', true), ''), 'default');
    _hops    integer := coalesce(nullif(current_setting('holdfast.rate_limit_hops', true), ''), '1')::integer;
    _claims  jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    _headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    _chain   text[] := string_to_array(replace(_headers ->> 'x-forwarded-for', ' ', ''), ',');
    _who     text := 'user:' || (_claims ->> 'sub');
    _found   record;
BEGIN
    IF _who IS NULL THEN
        _who := holdfast.rate_limit_address(_chain[greatest(cardinality(_chain) - _hops + 1, 1)]);
    END IF;
    IF current_setting('transaction_read_only') = 'on' THEN
        SELECT coalesce(p.verdict = 'allow', p.answer[3] >= 1) AS allowed,
               coalesce(p.answer[CASE WHEN p.verdict IS NULL THEN 4 ELSE 3 END] / 1e6, _window) AS retry_after INTO _found
        FROM holdfast.rate_limit_peek(
            _policy, holdfast.rate_limit_key(_who), ARRAY[_max], ARRAY[(_window * 1000000)::bigint], ARRAY['log'], ARRAY[0]) p;
    ELSE
        SELECT c.allowed, c.retry_after INTO _found FROM holdfast.check_rate_limit(_who, _max, _window, 1, _policy) c;
    END IF;
    IF NOT _found.allowed THEN
        RAISE EXCEPTION USING ERRCODE = 'PGRST',
            MESSAGE = json_build_object(
                'code', 'quota-exceeded', 'message', 'Too many requests',
                'details', format('%s requests in %s s are admitted', _max, _window), 'hint', NULL)::text,
            DETAIL = json_build_object('status', 429, 'status_text', 'Too Many Requests', 'headers', json_build_object(
                'Retry-After', greatest(ceil(_found.retry_after), 1)::text,
                'RateLimit-Policy', format('"%s";q=%s;w=%s', _policy, _max, _window),
                'RateLimit', format('"%s";r=0;t=%s', _policy, greatest(ceil(_found.retry_after), 1))))::text;
    END IF;
END
$function$;
