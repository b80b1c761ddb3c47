-- How many jobs of one queue each worker runs now that it claimed within the last `within`: those will run on for a while.
SELECT j.worker_id, count(*)
FROM holdfast.jobs j
WHERE j.status = 'running' AND j.queue = %(queue)s
  AND j.claimed_at > (SELECT holdfast.clock()) - %(within)s::interval
GROUP BY j.worker_id
