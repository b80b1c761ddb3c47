-- Forget a schedule.
-- RPC remove_schedule(name text) RETURNS SETOF text
DELETE FROM holdfast.schedules AS s WHERE s.name = %(name)s RETURNING s.name
