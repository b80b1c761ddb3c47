-- The dead-letter queues of SQS that anybody looks at: when, and what came of it. `expires_at`: when SQS deletes the oldest message
-- that is not kept whole here; of a queue that is only counted, when at the latest: `counted_since` is when messages were first counted
-- in it that were never found to be gone. One that nobody has looked at for long is nobody's any more: it was taken out of the settings.
CREATE TABLE IF NOT EXISTS holdfast.dead_letter_queues (
    name         text        COLLATE "C" NOT NULL PRIMARY KEY,
    looked_at    timestamptz,
    every        interval    NOT NULL,
    messages     bigint,
    captured     boolean     NOT NULL DEFAULT false,
    only_counted text,
    blind_since  timestamptz,
    error        text,
    expires_at   timestamptz,
    counted_since timestamptz
) WITH (fillfactor = 50);
