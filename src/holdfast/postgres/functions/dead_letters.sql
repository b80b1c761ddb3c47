-- What ended where nobody reads by itself: jobs that went dead, and messages found in dead-letter queues. `key` is the
-- message's id, or the job's with the lease of the run that ended it. `incident_id` is null until somebody was told of the
-- letter; `gone_at` is when it was seen to be no longer there (retried, redriven, drained, expired). From `captured_at` on the
-- message is kept here alone, whole: `body` as it came, and in `original` its attributes with their types, and what SQS said of it.
-- `outcome` is what somebody decided about it. A letter that came back after that is a new row: `earlier_id` is the one before,
-- and `returns` how many lives came before that were ended by somebody's decision. `missed`: a complete look did not find it; what a
-- second one does not find either is gone, since SQS's counts are approximate.
CREATE TABLE IF NOT EXISTS holdfast.dead_letters (
    id             uuid        NOT NULL PRIMARY KEY,
    source         text        COLLATE "C" NOT NULL,
    queue          text        COLLATE "C" NOT NULL,
    key            text        COLLATE "C" NOT NULL,
    job_id         text        ,
    kind           text        NOT NULL DEFAULT '',
    cause          text        NOT NULL DEFAULT '',
    fingerprint    text        COLLATE "C" NOT NULL,
    body           text        ,
    attributes     jsonb       NOT NULL DEFAULT '{}',
    received       integer     NOT NULL DEFAULT 0,
    sent_at        timestamptz ,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    gone_at        timestamptz ,
    incident_id    uuid        ,
    captured_at    timestamptz ,
    original       jsonb       ,
    missed         boolean     NOT NULL DEFAULT false,
    earlier_id     uuid        ,
    returns        integer     NOT NULL DEFAULT 0,
    redrive_id     uuid        ,
    outcome        text        COLLATE "C",
    outcome_at     timestamptz ,
    outcome_by     text        ,
    outcome_reason text        ,
    CONSTRAINT dead_letters_source CHECK (source IN ('job', 'sqs')),
    CONSTRAINT dead_letters_outcome CHECK (outcome IN ('redriven', 'discarded'))
);

CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_key ON holdfast.dead_letters (source, queue, key);
CREATE INDEX IF NOT EXISTS dead_letters_present ON holdfast.dead_letters (fingerprint, id) WHERE gone_at IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_untold ON holdfast.dead_letters (fingerprint, id) WHERE incident_id IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_earlier ON holdfast.dead_letters (earlier_id) WHERE earlier_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letters_job ON holdfast.dead_letters (queue, job_id, first_seen_at) WHERE source = 'sqs';
CREATE INDEX IF NOT EXISTS dead_letters_waiting ON holdfast.dead_letters (queue, sent_at) WHERE source = 'sqs' AND gone_at IS NULL;
CREATE INDEX IF NOT EXISTS dead_letters_gone ON holdfast.dead_letters (gone_at) WHERE gone_at IS NOT NULL;
