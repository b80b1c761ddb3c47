-- Where the job of a run stands, while its lease is still the newest.
-- RPC run_status(worker_id uuid, id uuid, lease bigint) RETURNS SETOF text
SELECT j.status
FROM holdfast.jobs j
WHERE j.id = %(id)s AND j.lease = %(lease)s AND j.worker_id = %(worker_id)s
