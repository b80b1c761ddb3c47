-- Whether a rescue took a job from a run that was still to be trusted, by the ledger's own timestamps (promise P4): its
-- worker was neither seen to end nor silent for its lost_after, or the job was not past its limits. Null stands for
-- what nobody knows any more (a worker that was pruned), and is not false.
CREATE OR REPLACE FUNCTION holdfast.is_false_rescue(
    reason text, at timestamptz, details jsonb, gone_at timestamptz, gone_reason text, seen_at timestamptz,
    lost_after interval, timeout interval, silent_after interval, stale_after interval
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE reason
        WHEN 'worker_gone' THEN seen_at IS NOT NULL
            AND (gone_at IS NULL OR gone_at > at OR (gone_reason = 'lapsed' AND gone_at < seen_at + lost_after AND gone_at >= seen_at))
        WHEN 'deadline_passed' THEN
            coalesce(at < (details ->> 'claimed_at')::timestamptz + timeout + interval '30 seconds', false)
        WHEN 'no_heartbeat' THEN
            coalesce(at < (details ->> 'last_sign_of_life')::timestamptz + least(silent_after, stale_after), false)
        ELSE false END
$function$;
