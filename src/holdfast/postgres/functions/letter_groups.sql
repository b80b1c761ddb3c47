-- The dead letters that a filter means (`matching_letters`), by cause, the most first; with how many of them came back at least
-- `quarantine_after` times: a redrive leaves those out. Counts are exact.
CREATE OR REPLACE FUNCTION holdfast.letter_groups(filter jsonb DEFAULT '{}', quarantine_after integer DEFAULT 3,
    max_groups integer DEFAULT 1000)
RETURNS TABLE (
    fingerprint text, queue text, source text, kind text, cause text, letters bigint, captured bigint, quarantined bigint,
    returned bigint, oldest_at timestamptz, newest_at timestamptz, sample_id uuid, sample_job_id text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.fingerprint, min(d.queue), min(d.source), min(d.kind), min(d.cause), count(*),
           count(*) FILTER (WHERE d.captured_at IS NOT NULL), count(*) FILTER (WHERE d.returns >= quarantine_after),
           count(*) FILTER (WHERE d.returns > 0), min(coalesce(d.sent_at, d.first_seen_at)),
           max(coalesce(d.sent_at, d.first_seen_at)), (min(d.id::text))::uuid, min(d.job_id)
    FROM holdfast.matching_letters(filter) d
    GROUP BY d.fingerprint
    ORDER BY count(*) DESC, d.fingerprint
    LIMIT max_groups;
$function$;
