-- Who changed what: one row for each change that somebody asked for over the API or the dashboard, written in the statement that
-- makes the change. It grows only: a trigger refuses to change a row, or to remove one before it is 400 days old.
-- `via`: key | session | open (this machine, while nobody has made a key). `outcome` is what became of it, 100 rows at most.
CREATE TABLE IF NOT EXISTS holdfast.audit_log (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    role    text        COLLATE "C" NOT NULL,
    via     text        COLLATE "C" NOT NULL,
    address text        NOT NULL DEFAULT '',
    action  text        COLLATE "C" NOT NULL,
    target  text        NOT NULL DEFAULT '',
    details jsonb       NOT NULL DEFAULT '{}',
    outcome jsonb       NOT NULL DEFAULT '[]'
);

DROP TRIGGER IF EXISTS guard_rows ON holdfast.audit_log;
CREATE TRIGGER guard_rows BEFORE UPDATE OR DELETE ON holdfast.audit_log
    FOR EACH ROW EXECUTE FUNCTION holdfast.guard_audit_log();
DROP TRIGGER IF EXISTS guard_all ON holdfast.audit_log;
CREATE TRIGGER guard_all BEFORE TRUNCATE ON holdfast.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.guard_audit_log();
