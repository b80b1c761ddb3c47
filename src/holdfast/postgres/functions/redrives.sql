-- Sending dead letters on their way again: what was asked for, by whom, and how far it came. `filter` is what was asked for, the
-- letters of redrive_letters what that was at that moment: what arrives later is in none. After `canary` letters it waits until
-- their outcomes are known. `owner` works at it until `lease_until`; whoever finds that passed goes on in its place.
-- status: running | checking (the canary's outcomes) | paused | watching (all is sent, outcomes are awaited) | done | cancelled |
-- stopped (letters came back with the same cause). `reason` says why it is so.
CREATE TABLE IF NOT EXISTS holdfast.redrives (
    id           uuid        NOT NULL PRIMARY KEY,
    status       text        COLLATE "C" NOT NULL DEFAULT 'running',
    reason       text        NOT NULL DEFAULT '',
    requested_by text        NOT NULL,
    note         text,
    filter       jsonb       NOT NULL,
    target       text,
    canary       integer     NOT NULL DEFAULT 0,
    canary_wait  interval    NOT NULL DEFAULT '5 minutes',
    rate         double precision,
    total        integer     NOT NULL,
    created_at   timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    began_at     timestamptz NOT NULL,
    began_with   integer     NOT NULL DEFAULT 0,
    canary_at    timestamptz,
    canary_done  boolean     NOT NULL DEFAULT false,
    finished_at  timestamptz,
    owner        uuid,
    lease_until  timestamptz,
    CONSTRAINT redrives_status CHECK (status IN ('running', 'checking', 'paused', 'watching', 'done', 'cancelled', 'stopped')),
    CONSTRAINT redrives_rate CHECK (rate > 0),
    CONSTRAINT redrives_canary CHECK (canary >= 0)
);

CREATE INDEX IF NOT EXISTS redrives_active ON holdfast.redrives (created_at) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS redrives_finished ON holdfast.redrives (finished_at) WHERE finished_at IS NOT NULL;

-- The letters of a redrive. status: waiting | sending (whoever died then may have sent it, or not) | sent | succeeded | returned (it is
-- dead again) | skipped | failed | left (the redrive ended first). `detail` says why.
CREATE TABLE IF NOT EXISTS holdfast.redrive_letters (
    redrive_id uuid        NOT NULL,
    position   integer     NOT NULL,
    letter_id  uuid        NOT NULL,
    status     text        COLLATE "C" NOT NULL DEFAULT 'waiting',
    detail     text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL,
    CONSTRAINT redrive_letters_pkey PRIMARY KEY (redrive_id, position),
    CONSTRAINT redrive_letters_status CHECK (status IN
        ('waiting', 'sending', 'sent', 'succeeded', 'returned', 'skipped', 'failed', 'left'))
);

CREATE INDEX IF NOT EXISTS redrive_letters_open ON holdfast.redrive_letters (redrive_id, status, position)
WHERE status IN ('waiting', 'sending', 'sent');
CREATE INDEX IF NOT EXISTS redrive_letters_letter ON holdfast.redrive_letters (letter_id);
