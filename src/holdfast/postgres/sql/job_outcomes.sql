-- Those of the given jobs that have ended.
SELECT j.id, j.status, j.result, j.error
FROM holdfast.jobs j
WHERE j.id = ANY (%(ids)s::uuid[]) AND j.status IN ('succeeded', 'dead', 'cancelled')
