-- A worker gives back what it never received: rows that say it runs them, under leases that it does not know
-- (check_leases called them `unknown`). No handler started, so it costs the job nothing.
CREATE OR REPLACE FUNCTION holdfast.release_lost_claims(worker_id uuid, ids uuid[], leases bigint[])
RETURNS TABLE (id uuid, lease bigint, status text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.id, r.lease, r.status
    FROM (
        SELECT array_agg(j.id ORDER BY j.id) AS ids, array_agg(j.lease ORDER BY j.id) AS leases
        FROM unnest(release_lost_claims.ids, release_lost_claims.leases) AS u (id, lease)
        JOIN holdfast.jobs j ON j.id = u.id AND j.lease = u.lease AND j.worker_id = release_lost_claims.worker_id
    ) mine
    CROSS JOIN LATERAL holdfast.rescue_jobs(mine.ids, mine.leases,
        array_fill('claim_lost'::text, ARRAY[cardinality(mine.ids)])) AS r
    WHERE mine.ids IS NOT NULL
$function$;
