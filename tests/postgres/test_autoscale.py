"""The view that autoscalers ask."""

from tests.support import Session, claim_one, enqueue, register, row, rows

#: As the chart asks it.
WANTED = "SELECT coalesce(sum(wanted), 0)::bigint AS wanted FROM holdfast.autoscale WHERE queue = ANY (%s)"


def wanted(conn: Session, *queues: str) -> int:
    found: int = row(conn, WANTED, list(queues))["wanted"]
    return found


def test_what_is_due_and_what_runs_is_wanted(conn: Session) -> None:
    for _ in range(3):
        enqueue(conn, queue="mail")
    assert wanted(conn, "mail") == 3
    claim_one(conn, register(conn, queues=["mail"]), queues=["mail"])
    assert wanted(conn, "mail") == 3
    assert row(conn, "SELECT queued, running FROM holdfast.autoscale WHERE queue = 'mail'") == {
        "queued": 2,
        "running": 1,
    }


def test_nothing_and_not_null_is_wanted_where_there_is_nothing(conn: Session) -> None:
    assert wanted(conn, "mail", "none") == 0


def test_a_queue_of_which_nothing_is_due_or_which_is_paused_wants_only_what_runs(conn: Session) -> None:
    enqueue(conn, queue="later", run_at="2100-01-01T00:00:00Z")
    enqueue(conn, queue="paused")
    conn.execute(
        "INSERT INTO holdfast.queues (name, paused, created_at) VALUES ('paused', true, holdfast.clock())"
        " ON CONFLICT (name) DO UPDATE SET paused = true"
    )
    assert wanted(conn, "later", "paused") == 0


def test_its_columns_stay(conn: Session) -> None:
    columns = rows(
        conn,
        "SELECT column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'holdfast' AND table_name = 'autoscale' ORDER BY ordinal_position",
    )
    assert [each["name"] for each in columns] == [
        "queue", "paused", "queued", "running", "oldest_due_seconds", "wanted",
    ]  # fmt: skip
