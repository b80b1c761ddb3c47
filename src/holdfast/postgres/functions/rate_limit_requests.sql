-- The rate limiter's counts: for each policy and identity one log of what was admitted, which serves all limits of the
-- policy: `stamps` (microseconds since 1970, the oldest first) and, beside each, the sum of all units admitted until
-- then; `base` is the sum before the first of them. `marks` has two numbers for each limit of another algorithm: when
-- its window began and the sum then (fixed), or until when it is paid for, and the parts of a microsecond (gcra).
-- `key` is a keyed hash: no address of anybody is kept. `place`, `granted` and `answer` are those of the last call: an
-- INSERT can return only what it stores. Only the primary key, so that a hit is one HOT update; logs stay in the row.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_requests (
    policy     text        COLLATE "C" NOT NULL,
    key        uuid        NOT NULL,
    base       bigint      NOT NULL,
    stamps     bigint[]    NOT NULL,
    sums       bigint[]    NOT NULL,
    marks      bigint[],
    refused    bigint      NOT NULL,
    place      integer     NOT NULL,
    granted    integer,
    answer     bigint[],
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (policy, key)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
ALTER TABLE holdfast.rate_limit_requests ENABLE ROW LEVEL SECURITY;

-- One row: the secret of the hashes, a number that grows whenever somebody changes what processes may have remembered
-- (a reset, a rule), and whether there are so many identities that new ones share places.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_state (
    one        boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    secret     bytea   NOT NULL,
    generation bigint  NOT NULL DEFAULT 1,
    is_full    boolean NOT NULL DEFAULT false
);
ALTER TABLE holdfast.rate_limit_state ENABLE ROW LEVEL SECURITY;
INSERT INTO holdfast.rate_limit_state (secret)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
ON CONFLICT DO NOTHING;

-- Rules that differ from what programs ask for: who is always admitted, who never, and who has other limits. An empty
-- `policy` is every policy; the key of zeros is every identity. Lists win over limits, and to block wins over to allow.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_rules (
    policy     text        COLLATE "C" NOT NULL,
    key        uuid        NOT NULL,
    verdict    text        NOT NULL CHECK (verdict IN ('allow', 'block', 'limit')),
    mosts      integer[],
    spans      bigint[],
    kinds      text[],
    bursts     integer[],
    until      timestamptz,
    note       text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (policy, key),
    CHECK (verdict <> 'limit' OR cardinality(mosts) > 0)
);
ALTER TABLE holdfast.rate_limit_rules ENABLE ROW LEVEL SECURITY;

-- The processes that limit: how many there are decides their shares while Postgres does not answer.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_instances (
    id      uuid        NOT NULL PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
ALTER TABLE holdfast.rate_limit_instances ENABLE ROW LEVEL SECURITY;

-- What was decided, over all processes and all time.
CREATE TABLE IF NOT EXISTS holdfast.rate_limit_totals (
    policy    text        COLLATE "C" NOT NULL,
    source    text        NOT NULL,
    outcome   text        NOT NULL,
    decisions bigint      NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (policy, source, outcome)
) WITH (fillfactor = 50);
ALTER TABLE holdfast.rate_limit_totals ENABLE ROW LEVEL SECURITY;
