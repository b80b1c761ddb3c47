-- Is the rate limiter's table there, and may we read it? Counted to 1,000.
-- RPC probe_rate_limit_requests() RETURNS SETOF bigint
SELECT count(*) FROM (SELECT FROM holdfast.rate_limit_requests LIMIT 1000) r
