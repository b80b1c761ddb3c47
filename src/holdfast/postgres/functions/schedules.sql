-- Periodic jobs, one row each. `next_at` is when it ticks next: whoever advances it from the value that it has seen, in
-- the transaction that writes the job, has the tick; nobody else can have it too.
-- `declared_at`: when a worker whose program declares it, with this definition, last said so. A schedule that nobody
-- declares any more is kept to be seen, and never ticks, for only who declares it advances it.
CREATE TABLE IF NOT EXISTS holdfast.schedules (
    name        text        COLLATE "C" NOT NULL PRIMARY KEY,
    cron        text        NOT NULL,
    time_zone   text        NOT NULL,
    queue       text        COLLATE "C" NOT NULL,
    kind        text        COLLATE "C" NOT NULL,
    args        jsonb       NOT NULL,
    overlap     boolean     NOT NULL DEFAULT false,
    paused      boolean     NOT NULL DEFAULT false,
    next_at     timestamptz NOT NULL,
    last_at     timestamptz,
    last_job_id uuid,
    last_result text,
    declared_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT schedules_last_result CHECK (last_result IN ('enqueued', 'overlapped'))
) WITH (fillfactor = 50);
