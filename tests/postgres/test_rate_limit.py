"""The rate limit in Postgres: exact in every window, over any number of sessions."""

import threading
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import Session, advance, row, rows, seconds


def hit(conn: Session, key: str = "k", units: int = 1, most: int = 5, *, whole: bool = False) -> dict[str, Any]:
    return row(
        conn,
        "SELECT * FROM holdfast.rate_limit_hits(ARRAY['p'], ARRAY[%s], ARRAY[%s::integer], ARRAY[%s::integer],"
        " ARRAY[interval '60 s'], ARRAY[%s::boolean])",
        key,
        units,
        most,
        whole,
    )


def test_the_limit_is_granted_and_no_more_until_the_first_leaves_the_window(conn: Session) -> None:
    for left in (4, 3, 2, 1, 0):
        answer = hit(conn)
        assert (answer["granted"], answer["remaining"]) == (1, left)
        advance(conn, seconds(10))
    refused = hit(conn)
    assert (refused["granted"], refused["remaining"]) == (0, 0)
    assert 9 < refused["retry_after"] <= 10
    assert 49 < refused["reset_after"] <= 50
    advance(conn, seconds(refused["retry_after"] + 0.001))
    assert hit(conn)["granted"] == 1
    assert hit(conn)["granted"] == 0
    assert hit(conn, "other")["granted"] == 1


def test_units_are_granted_as_far_as_there_is_room_or_whole(conn: Session) -> None:
    assert hit(conn, units=3)["granted"] == 3
    assert hit(conn, units=3, whole=True)["granted"] == 0
    assert hit(conn, units=3)["granted"] == 2
    assert hit(conn, "new", units=9)["granted"] == 5
    assert hit(conn, "whole", units=9, whole=True)["granted"] == 0
    assert hit(conn, "whole", units=5, whole=True)["granted"] == 5


def test_several_identities_are_answered_in_the_order_asked(conn: Session) -> None:
    answers = rows(
        conn,
        "SELECT * FROM holdfast.rate_limit_hits(ARRAY['p', 'p', 'p'], ARRAY['z', 'a', 'm'], ARRAY[1, 2, 3],"
        " ARRAY[5, 5, 5], array_fill(interval '60 s', ARRAY[3]), ARRAY[false, false, false])",
    )
    assert [(answer["place"], answer["granted"], answer["remaining"]) for answer in answers] == [
        (1, 1, 4),
        (2, 2, 3),
        (3, 3, 2),
    ]


def test_stamps_that_a_clock_set_back_left_in_the_future_count_from_now_on(conn: Session) -> None:
    hit(conn, units=5)
    advance(conn, seconds(-3600))
    assert hit(conn)["granted"] == 0
    advance(conn, seconds(61))
    assert hit(conn)["granted"] == 1


def test_sessions_side_by_side_admit_the_limit_exactly(conn: Session, connect: Callable[[], Session]) -> None:
    granted: list[int] = []
    sessions = [connect() for _ in range(6)]

    def work(session: Session) -> None:
        granted.extend(hit(session, most=40)["granted"] for _ in range(20))

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 120
    assert sum(granted) == 40


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4), st.booleans()), max_size=25))
def test_no_window_ever_holds_more_than_the_limit(conn: Session, steps: list[tuple[float, int, bool]]) -> None:
    conn.execute("TRUNCATE holdfast.rate_limit_requests")
    now, admitted = 0.0, list[float]()
    for step, units, whole in steps:
        advance(conn, seconds(step))
        now += step
        admitted += [now] * hit(conn, units=units, whole=whole)["granted"]
    for start in admitted:
        assert sum(1 for each in admitted if start <= each < start + 55) <= 5, "with slack: real time passes as well"


def test_what_has_left_its_window_is_forgotten(conn: Session) -> None:
    hit(conn, "old")
    advance(conn, seconds(30))
    hit(conn, "young")
    advance(conn, seconds(31))
    assert row(conn, "SELECT holdfast.rate_limit_prune() AS gone")["gone"] == 1
    assert [each["key"] for each in rows(conn, "SELECT key FROM holdfast.rate_limit_requests")] == ["young"]
