-- The same as enqueue, for a request that its caller has named (see the function enqueue_once).
-- RPC enqueue_request(scope text, key text, request_hash text, jobs text, policies text)
-- RETURNS TABLE (ord integer, id uuid, created boolean, replayed boolean)
SELECT e.ord, e.id, e.created, e.replayed
FROM (
    SELECT array_agg(j.id) AS ids, array_agg(j.queue) AS queues, array_agg(j.kind) AS kinds, array_agg(j.args) AS args,
           array_agg(j.priority) AS priorities, array_agg(j.run_at) AS run_ats,
           array_agg(make_interval(secs => j.delay)) AS delays, array_agg(j.unique_key) AS unique_keys,
           array_agg(j.group_key) AS group_keys, array_agg(j.limit_key) AS limit_keys,
           array_agg(j.policy) AS policies, array_agg(j.traceparent) AS traceparents
    FROM json_to_recordset(CAST(%(jobs)s AS text)::json) AS j (
        id uuid, queue text, kind text, args jsonb, priority smallint, run_at timestamptz, delay double precision,
        unique_key text, group_key text, limit_key text, policy integer, traceparent text)) AS a
CROSS JOIN LATERAL holdfast.enqueue_once(
    %(scope)s, %(key)s, %(request_hash)s, a.ids, a.queues, a.kinds, a.args, a.priorities, a.run_ats, a.delays,
    a.unique_keys, a.group_keys, a.limit_keys, a.policies, a.traceparents, CAST(%(policies)s AS text)::jsonb) AS e
