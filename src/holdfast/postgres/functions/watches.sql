-- Tables of other programs that are watched ([[watch]] in holdfast.toml): when somebody looked last, and what came of it. One that
-- nobody has looked at for a day is nobody's any more: it was taken out of the settings.
CREATE TABLE IF NOT EXISTS holdfast.watches (
    name          text        COLLATE "C" NOT NULL PRIMARY KEY,
    table_name    text        NOT NULL,
    action        text        COLLATE "C" NOT NULL,
    stale_after   interval    NOT NULL,
    every         interval    NOT NULL,
    looked_at     timestamptz,
    stale         bigint      NOT NULL DEFAULT 0,
    rescued       bigint      NOT NULL DEFAULT 0,
    given_up      bigint      NOT NULL DEFAULT 0,
    problem_since timestamptz,
    problem       text,
    advice        text
) WITH (fillfactor = 50);

-- What was done to which row, and the message that is still to be sent for it (queue_url, without sent_at): written in the
-- statement that changed the row's status, so that neither is there without the other. Kept for 7 days, and until it is sent.
-- `due_at` is when it is sent next; whoever sends moves it on first, so that two rarely send the same.
CREATE TABLE IF NOT EXISTS holdfast.watch_rescues (
    id           uuid        NOT NULL PRIMARY KEY,
    watch        text        COLLATE "C" NOT NULL,
    row_id       text        COLLATE "C" NOT NULL,
    from_status  text        NOT NULL,
    to_status    text        NOT NULL,
    is_final     boolean     NOT NULL,
    silent_since timestamptz,
    rescued_at   timestamptz NOT NULL,
    queue_url    text,
    entry        jsonb,
    due_at       timestamptz,
    attempts     integer     NOT NULL DEFAULT 0,
    sent_at      timestamptz,
    error        text
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS watch_rescues_row ON holdfast.watch_rescues (watch, row_id, rescued_at);
CREATE INDEX IF NOT EXISTS watch_rescues_at ON holdfast.watch_rescues (rescued_at);
CREATE INDEX IF NOT EXISTS watch_rescues_due ON holdfast.watch_rescues (due_at) WHERE queue_url IS NOT NULL AND sent_at IS NULL;
