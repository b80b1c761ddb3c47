-- When the first job of a queue succeeded that was claimed after a moment; null while there is none.
SELECT min(j.finished_at)
FROM holdfast.jobs j
WHERE j.queue = %(queue)s AND j.status = 'succeeded' AND j.claimed_at > %(moment)s
