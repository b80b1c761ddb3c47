-- What somebody must know of: one open row for each cause (`kind` and `key`), with how much of it arrived so far, and how much of
-- that nobody was told of yet. `version` grows with each change: whoever decided about an older one has decided nothing.
-- `clean`: looks in a row that found nothing of it. One that came back soon is opened again (`reopened`).
CREATE TABLE IF NOT EXISTS holdfast.incidents (
    id              uuid        NOT NULL PRIMARY KEY,
    kind            text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    status          text        COLLATE "C" NOT NULL DEFAULT 'open',
    title           text        NOT NULL,
    details         jsonb       NOT NULL DEFAULT '{}',
    arrivals        bigint      NOT NULL DEFAULT 0,
    opened_at       timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    resolved_at     timestamptz ,
    version         bigint      NOT NULL DEFAULT 1,
    level           integer     NOT NULL DEFAULT 0,
    untold          bigint      NOT NULL DEFAULT 0,
    told_at         timestamptz ,
    repeats         integer     NOT NULL DEFAULT 0,
    clean           integer     NOT NULL DEFAULT 0,
    clean_since     timestamptz ,
    reopened        integer     NOT NULL DEFAULT 0,
    reopened_at     timestamptz ,
    acknowledged_at timestamptz ,
    acknowledged_by text        ,
    silenced_until  timestamptz ,
    silenced_by     text        ,
    note            text        ,
    CONSTRAINT incidents_status CHECK (status IN ('open', 'resolved'))
);

CREATE UNIQUE INDEX IF NOT EXISTS incidents_open ON holdfast.incidents (kind, key) WHERE status = 'open';
CREATE INDEX IF NOT EXISTS incidents_key ON holdfast.incidents (kind, key);
CREATE INDEX IF NOT EXISTS incidents_changed ON holdfast.incidents (changed_at);

-- What is to be told of an incident, to one channel: written with the incident in one transaction, delivered at least once.
-- `due_at` is when it is tried next; whoever tries moves it on first, so that two never try at once.
CREATE TABLE IF NOT EXISTS holdfast.notifications (
    id           uuid        NOT NULL PRIMARY KEY,
    incident_id  uuid,
    channel      text        COLLATE "C" NOT NULL,
    reason       text        COLLATE "C" NOT NULL,
    content      jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    error        text,
    CONSTRAINT notifications_reason CHECK (reason IN ('first', 'worse', 'repeat', 'resolved', 'test'))
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS notifications_due ON holdfast.notifications (due_at) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS notifications_waiting ON holdfast.notifications (incident_id, channel) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS notifications_delivered ON holdfast.notifications (delivered_at) WHERE delivered_at IS NOT NULL;

INSERT INTO holdfast.monitors (name)
VALUES ('collect_dead_jobs'), ('watch_dead_letters'), ('watch_health'), ('deliver_notifications')
ON CONFLICT (name) DO NOTHING;
