-- Ring: tell whoever listens that these queues have work.
-- RPC ring(queues text[]) RETURNS SETOF text
SELECT q FROM unnest(%(queues)s::text[]) AS q CROSS JOIN LATERAL pg_notify('holdfast_bell', q) AS n
