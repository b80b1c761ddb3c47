-- The keys of the HTTP API. A key is shown once, when it is made; kept is the SHA-256 of its secret, which is 256 bits
-- of chance: there is nothing in it to guess, so no slow hash is needed. `canary` keys are made by `holdfast verify`
-- for a few minutes, and are not counted where it is asked whether there are any keys.
CREATE TABLE IF NOT EXISTS holdfast.api_keys (
    id           text        COLLATE "C" NOT NULL PRIMARY KEY,
    name         text        NOT NULL,
    role         text        COLLATE "C" NOT NULL DEFAULT 'admin',
    secret_hash  text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_role CHECK (role IN ('viewer', 'submitter', 'operator', 'admin', 'canary'))
) WITH (fillfactor = 50);
