-- Ask for an action on all jobs that a filter matches. With the id of one that is there already, nothing is written.
INSERT INTO holdfast.bulk_operations (id, action, filter, actor, expected, is_more, last_id, created_at, changed_at)
SELECT %(id)s, %(action)s, %(filter)s::jsonb, %(actor)s, %(expected)s, %(is_more)s, %(last_id)s,
       (SELECT holdfast.clock()), (SELECT holdfast.clock())
ON CONFLICT (id) DO NOTHING
RETURNING id, action, expected
