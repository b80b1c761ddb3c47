"""Which queues are rung, and how often: for due jobs and idle workers, again after a claim, else after a while."""

from tests.support import Row, Session, advance, claim_one, enqueue, register, rows, seconds


def ring(conn: Session) -> dict[str, int]:
    found: list[Row] = rows(conn, "SELECT * FROM holdfast.queues_to_ring()")
    return {each["queue"]: each["bells"] for each in found}


def test_a_queue_with_a_due_job_and_an_idle_worker_is_rung_once(conn: Session) -> None:
    register(conn)
    assert ring(conn) == {}
    enqueue(conn)
    assert ring(conn) == {"default": 1}
    assert ring(conn) == {}


def test_it_is_rung_again_after_a_claim_or_when_nobody_claimed_for_15_seconds(conn: Session) -> None:
    worker = register(conn, slots=10)
    enqueue(conn)
    enqueue(conn)
    ring(conn)
    advance(conn, seconds(2))
    assert ring(conn) == {}
    claim_one(conn, worker)
    assert ring(conn) == {"default": 1}
    advance(conn, seconds(14))
    assert ring(conn) == {}
    advance(conn, seconds(2))
    assert ring(conn) == {"default": 1}


def test_there_are_as_many_bells_as_jobs_or_idle_workers_and_never_more_than_ten(conn: Session) -> None:
    for _ in range(3):
        register(conn)
    for _ in range(2):
        enqueue(conn)
    assert ring(conn) == {"default": 2}
    advance(conn, seconds(16))
    for _ in range(20):
        enqueue(conn)
    assert ring(conn) == {"default": 3}
    for _ in range(20):
        register(conn)
    advance(conn, seconds(16))
    assert ring(conn) == {"default": 10}


def test_nothing_is_rung_for_later_jobs_paused_queues_or_busy_gone_and_draining_workers(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn, delay=1000)
    assert ring(conn) == {}
    enqueue(conn)
    conn.execute("UPDATE holdfast.queues SET paused = true")
    assert ring(conn) == {}
    conn.execute("UPDATE holdfast.queues SET paused = false")
    conn.execute("UPDATE holdfast.workers SET running = slots")
    assert ring(conn) == {}
    conn.execute("UPDATE holdfast.workers SET running = 0, draining = true")
    assert ring(conn) == {}
    conn.execute("UPDATE holdfast.workers SET draining = false")
    conn.execute("SELECT holdfast.mark_workers_gone(ARRAY[%s]::uuid[], 'stopped')", (worker,))
    assert ring(conn) == {}


def test_a_rescued_job_s_queue_is_rung(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn)
    ring(conn)
    claim_one(conn, worker)
    conn.execute("SELECT holdfast.mark_workers_gone(ARRAY[%s]::uuid[], 'crashed')", (worker,))
    register(conn)
    assert ring(conn) == {}
    conn.execute("SELECT holdfast.rescue_stale_jobs()")
    assert ring(conn) == {"default": 1}


def test_the_due_job_is_found_behind_groups_and_later_ones(conn: Session) -> None:
    register(conn)
    for number in range(50):
        enqueue(conn, group_key=f"g{number}", delay=1000)
    enqueue(conn, priority=900)
    assert ring(conn) == {"default": 1}
