-- The monitors: when each swept last, what it came to, whether the brake holds.
SELECT m.name, m.swept_at, m.resumed_at, m.hold IS NOT NULL AND NOT m.hold ? 'ended' AS is_held,
       coalesce(m.last_result, '{}') AS last_result, (SELECT holdfast.clock()) AS clock
FROM holdfast.monitors m ORDER BY m.name LIMIT 100
