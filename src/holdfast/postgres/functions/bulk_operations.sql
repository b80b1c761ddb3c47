-- Actions on all jobs that match a filter, as they go on. `filter` as `search_jobs` has it. Jobs are gone through in the order
-- of their ids, from behind `after_id` up to `last_id`, which is where the ids stood when it was asked for: what comes to match
-- later is not touched, and nothing is touched twice. `verdicts` counts what became of them; `samples` are ids of each, 20 at most.
CREATE TABLE IF NOT EXISTS holdfast.bulk_operations (
    id          uuid        NOT NULL PRIMARY KEY,
    action      text        COLLATE "C" NOT NULL,
    filter      jsonb       NOT NULL,
    actor       text        NOT NULL,
    status      text        COLLATE "C" NOT NULL DEFAULT 'running',
    expected    bigint      NOT NULL,
    is_more     boolean     NOT NULL DEFAULT false,
    looked      bigint      NOT NULL DEFAULT 0,
    done        bigint      NOT NULL DEFAULT 0,
    verdicts    jsonb       NOT NULL DEFAULT '{}',
    samples     jsonb       NOT NULL DEFAULT '{}',
    after_id    uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    last_id     uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT bulk_operations_action CHECK (action IN ('retry', 'cancel')),
    CONSTRAINT bulk_operations_status CHECK (status IN ('running', 'done', 'cancelled'))
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS bulk_operations_running ON holdfast.bulk_operations (changed_at) WHERE status = 'running';
