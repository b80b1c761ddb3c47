-- Settle a run as complete inside the transaction of its own handler, the caller's or ours. Every parameter is text, so
-- that every driver sends them alike. From here on the job's row is locked: a transaction that then stays idle for longer
-- than a lease can be trusted is ended by the server, so that a frozen process cannot keep its job from being rescued.
SELECT s.verdict
FROM (SELECT set_config('idle_in_transaction_session_timeout', CAST(%(idle)s AS text), true)) AS bounded (idle)
CROSS JOIN LATERAL holdfast.settle(
    CAST(%(worker_id)s AS text)::uuid, ARRAY[CAST(%(id)s AS text)::uuid], ARRAY[CAST(%(lease)s AS text)::bigint],
    ARRAY['complete'], results => ARRAY[CAST(%(result)s AS text)::jsonb]) AS s
WHERE bounded.idle IS NOT NULL
