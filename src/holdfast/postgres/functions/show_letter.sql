-- One dead letter by the beginning or end of its id, or the beginning of its job's id, whole, with the job in the ledger that it was about: the true error
-- instead of "received too many times". Those of exactly that job first, then the newest, 2 at most: whoever asks sees that more letters
-- are meant.
CREATE OR REPLACE FUNCTION holdfast.show_letter(wanted text)
RETURNS TABLE (
    id uuid, source text, queue text, key text, job_id text, kind text, cause text, fingerprint text, body text, attributes jsonb,
    received integer, sent_at timestamptz, first_seen_at timestamptz, last_seen_at timestamptz, gone_at timestamptz,
    captured_at timestamptz, original jsonb, returns integer, earlier_id uuid, outcome text, outcome_at timestamptz,
    outcome_by text, outcome_reason text, incident_id uuid, job_status text, job_error jsonb, job_attempts integer,
    job_crashes integer, job_worker uuid, job_heartbeat_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.id, d.source, d.queue, d.key, d.job_id, d.kind, d.cause, d.fingerprint, d.body, d.attributes, d.received, d.sent_at,
           d.first_seen_at, d.last_seen_at, d.gone_at, d.captured_at, d.original, d.returns, d.earlier_id, d.outcome, d.outcome_at,
           d.outcome_by, d.outcome_reason, d.incident_id, j.status, j.error, j.attempts::integer, j.crashes::integer, j.worker_id,
           j.heartbeat_at
    FROM holdfast.dead_letters d
    -- Somebody else's id need not be one of ours, nor a uuid at all.
    LEFT JOIN holdfast.jobs j ON j.id = CASE WHEN d.job_id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN d.job_id::uuid END
    WHERE starts_with(d.id::text, lower(wanted)) OR right(d.id::text, length(wanted)) = lower(wanted) OR starts_with(d.job_id, wanted)
    ORDER BY d.job_id IS NOT DISTINCT FROM wanted DESC, d.first_seen_at DESC, d.id
    LIMIT 2;
$function$;
