-- What a caller's Idempotency-Key was answered with, for a day. `scope` is the caller: a key of one means nothing to
-- another. `request_hash` tells the same request from another one under the same key.
CREATE TABLE IF NOT EXISTS holdfast.idempotency_keys (
    scope        text        COLLATE "C" NOT NULL,
    key          text        COLLATE "C" NOT NULL,
    request_hash text        NOT NULL,
    answers      jsonb       NOT NULL DEFAULT '[]',
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX IF NOT EXISTS idempotency_keys_created ON holdfast.idempotency_keys (created_at);
