-- Forget a schedule.
DELETE FROM holdfast.schedules AS s WHERE s.name = %(name)s RETURNING s.name
