-- Dead letters, the newest first. `filter` as `matching_letters` has it.
CREATE OR REPLACE FUNCTION holdfast.list_letters(filter jsonb DEFAULT '{}', max_letters integer DEFAULT 100)
RETURNS TABLE (
    id uuid, source text, queue text, job_id text, kind text, cause text, fingerprint text, received integer, sent_at timestamptz,
    first_seen_at timestamptz, gone_at timestamptz, captured_at timestamptz, returns integer, outcome text, bytes integer)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.id, d.source, d.queue, d.job_id, d.kind, d.cause, d.fingerprint, d.received, d.sent_at, d.first_seen_at, d.gone_at,
           d.captured_at, d.returns, d.outcome, octet_length(d.body)
    FROM holdfast.matching_letters(filter) d
    ORDER BY d.first_seen_at DESC, d.id
    LIMIT max_letters;
$function$;
