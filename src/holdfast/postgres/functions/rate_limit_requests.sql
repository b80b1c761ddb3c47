-- What the rate limiter remembers: one row for each policy and identity, with the times (microseconds since 1970, oldest
-- first) of what was admitted within the window. `key` is a hash: no address of anybody is kept. Only the primary key,
-- so that a hit is one HOT update.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_requests (
    policy     text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    stamps     bigint[]    NOT NULL,
    granted    integer     NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (policy, key)
) WITH (fillfactor = 50);
