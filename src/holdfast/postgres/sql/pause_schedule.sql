-- Pause a schedule, or resume it: then it goes on with the next tick, and what it missed in between stays missed.
-- RPC pause_schedule(name text, paused boolean, next_at timestamptz) RETURNS SETOF text
UPDATE holdfast.schedules AS s
SET paused = %(paused)s, next_at = coalesce(%(next_at)s::timestamptz, s.next_at)
WHERE s.name = %(name)s
RETURNING s.name
