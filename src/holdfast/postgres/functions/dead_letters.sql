-- What ended where nobody reads by itself: jobs that went dead, and messages found in dead-letter queues. `key` is the
-- message's id, or the job's with the lease of the run that ended it. `incident_id` is null until somebody was told of the
-- letter; `gone_at` is when it was seen to be no longer there (retried, redriven, drained, expired). From `captured_at` on the
-- message is kept here alone, whole: `body` as it came, and in `original` its attributes with their types, and what SQS said of it.
CREATE TABLE IF NOT EXISTS holdfast.dead_letters (
    id            uuid        NOT NULL PRIMARY KEY,
    source        text        COLLATE "C" NOT NULL,
    queue         text        COLLATE "C" NOT NULL,
    key           text        COLLATE "C" NOT NULL,
    job_id        text,
    kind          text        NOT NULL DEFAULT '',
    cause         text        NOT NULL DEFAULT '',
    fingerprint   text        COLLATE "C" NOT NULL,
    body          text,
    attributes    jsonb       NOT NULL DEFAULT '{}',
    received      integer     NOT NULL DEFAULT 0,
    sent_at       timestamptz,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    gone_at       timestamptz,
    incident_id   uuid,
    captured_at   timestamptz,
    original      jsonb,
    CONSTRAINT dead_letters_source CHECK (source IN ('job', 'sqs'))
);

CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_key ON holdfast.dead_letters (source, queue, key);
CREATE INDEX IF NOT EXISTS dead_letters_present ON holdfast.dead_letters (fingerprint, id) WHERE gone_at IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_untold ON holdfast.dead_letters (fingerprint, id) WHERE incident_id IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_gone ON holdfast.dead_letters (gone_at) WHERE gone_at IS NOT NULL;
