-- Those of the given jobs that have ended, and those that are not in the ledger (missing).
-- RPC job_outcomes(ids uuid[]) RETURNS TABLE (id uuid, status text, result jsonb, error jsonb)
SELECT g.id, coalesce(j.status, 'missing'), j.result, j.error
FROM unnest(%(ids)s::uuid[]) AS g (id)
LEFT JOIN holdfast.jobs j ON j.id = g.id
WHERE j.id IS NULL OR j.status IN ('succeeded', 'dead', 'cancelled')
