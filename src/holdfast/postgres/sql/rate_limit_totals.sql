-- What the limiter decided, for metrics: bounded, since a program may make policies out of data.
SELECT policy, source, outcome, decisions FROM holdfast.rate_limit_totals ORDER BY last_at DESC, policy, source, outcome LIMIT 1000
