-- Forget what only served for a while: idempotency keys after a day, canary keys that have expired, services that were not
-- seen for a day; minutes of job_stats after 8 days; totals of kinds that nothing happened to after 90 days. One bounded step;
-- returns how many rows went.
CREATE OR REPLACE FUNCTION holdfast.prune_bookkeeping(max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH keys AS (
        DELETE FROM holdfast.idempotency_keys k
        USING (SELECT o.scope, o.key FROM holdfast.idempotency_keys o
               WHERE o.created_at < (SELECT holdfast.clock()) - interval '1 day'
               ORDER BY o.created_at
               LIMIT max_rows FOR UPDATE SKIP LOCKED) old
        WHERE k.scope = old.scope AND k.key = old.key
        RETURNING 1
    ), canaries AS (
        DELETE FROM holdfast.api_keys a
        WHERE a.role = 'canary' AND a.expires_at < (SELECT holdfast.clock())
        RETURNING 1
    ), services AS (
        DELETE FROM holdfast.services s
        WHERE s.seen_at < (SELECT holdfast.clock()) - interval '1 day'
        RETURNING 1
    ), stats AS (
        DELETE FROM holdfast.job_stats s
        USING (SELECT o.minute, o.queue, o.kind FROM holdfast.job_stats o
               WHERE o.minute < (SELECT holdfast.clock()) - interval '8 days' LIMIT max_rows) old
        WHERE (s.minute, s.queue, s.kind) = (old.minute, old.queue, old.kind)
        RETURNING 1
    ), totals AS (
        DELETE FROM holdfast.job_stats s
        WHERE s.minute = 'infinity' AND s.last_at < (SELECT holdfast.clock()) - interval '90 days'
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM canaries) + (SELECT count(*) FROM services)
         + (SELECT count(*) FROM stats) + (SELECT count(*) FROM totals);
$function$;
