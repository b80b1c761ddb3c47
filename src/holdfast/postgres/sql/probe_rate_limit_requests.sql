-- Is the rate limiter's table there, and may we read it? Counted to 1,000.
SELECT count(*) FROM (SELECT FROM holdfast.rate_limit_requests LIMIT 1000) r
