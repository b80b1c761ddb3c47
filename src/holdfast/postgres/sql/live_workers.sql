-- The live workers that serve a queue.
SELECT w.id, w.pid, w.parent_pid FROM holdfast.workers w WHERE w.gone_at IS NULL AND %(queue)s = ANY (w.queues)
