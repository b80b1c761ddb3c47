-- How many jobs of one queue are in each state. It counts rows: for the demo's own queue, not for dashboards.
SELECT j.status, count(*) FROM holdfast.jobs j WHERE j.queue = %(queue)s GROUP BY j.status
