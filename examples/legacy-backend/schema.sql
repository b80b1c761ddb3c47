-- The backend's own table of jobs, as it was before Holdfast.
CREATE TABLE IF NOT EXISTS public.exports (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status       text        NOT NULL DEFAULT 'pending'
                             CHECK (status IN ('pending', 'processing', 'done', 'failed')),
    pages        integer     NOT NULL,
    pages_done   integer     NOT NULL DEFAULT 0,
    heartbeat_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS exports_processing ON public.exports (id) WHERE status = 'processing';
