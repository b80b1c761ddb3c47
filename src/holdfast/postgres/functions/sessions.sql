-- Who is signed in to the dashboard, and the links that sign somebody in once. Only the hash of a secret is kept. `actor` is what
-- people read ("key deploy", "link of root@host"); a session made with a key ends with it. `ended_at`: signed out, or used up.
CREATE TABLE IF NOT EXISTS holdfast.sessions (
    id          text        COLLATE "C" NOT NULL PRIMARY KEY,
    kind        text        COLLATE "C" NOT NULL,
    secret_hash text        NOT NULL,
    role        text        COLLATE "C" NOT NULL,
    actor       text        NOT NULL,
    key_id      text        COLLATE "C",
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    CONSTRAINT sessions_kind CHECK (kind IN ('link', 'session'))
);

CREATE INDEX IF NOT EXISTS sessions_expires ON holdfast.sessions (expires_at);
