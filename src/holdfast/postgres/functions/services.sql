-- Who is here: one row for each supervisor or single service (worker, API, monitor), written each few seconds, removed at a
-- clean end. Nothing of the protocol depends on it: it tells people what runs where, and with which settings.
-- `settings_hash` stands for what the settings files in `folder` said when the service started.
CREATE TABLE IF NOT EXISTS holdfast.services (
    id            uuid        NOT NULL PRIMARY KEY,
    name          text        COLLATE "C" NOT NULL,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    version       text        NOT NULL,
    folder        text        NOT NULL,
    settings_hash text        NOT NULL,
    address       text,
    bell_url      text,
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL
) WITH (fillfactor = 50);
