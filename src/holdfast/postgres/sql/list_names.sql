-- Names of queues and kinds that exist now, for completion in a shell: those of live workers, and of queues paused once.
SELECT w.queues, w.kinds FROM holdfast.workers w WHERE w.gone_at IS NULL
UNION ALL
SELECT array_agg(q.name), '{}' FROM holdfast.queues q HAVING count(*) > 0
LIMIT %(limit)s
