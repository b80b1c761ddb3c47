"""The rate limit in Postgres: its functions as any language calls them."""

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from holdfast.services.identities import folded, hashed
from tests.support import Session, advance, row, rows, seconds

ALL = UUID(int=0)


def key(number: int) -> UUID:
    return UUID(int=number + 1)


def hits(
    conn: Session,
    *keys: UUID,
    most: int = 5,
    window: float = 60,
    wanted: int = 1,
    cost: int = 1,
    debt: int = 0,
    policy: str = "p",
) -> list[dict[str, Any]]:
    found = rows(
        conn,
        "SELECT place, answer[1] AS granted, answer[2] AS stamp, answer[3] AS left, answer[4] / 1e6 AS retry_after,"
        " answer[5] / 1e6 AS reset_after, verdict, rule FROM holdfast.rate_limit_hits(ARRAY[%s], '{1}', '{1}',"
        " ARRAY[%s::integer], ARRAY[%s::bigint], '{log}', '{0}', %s::uuid[], NULL, %s::integer[], %s::integer[],"
        " %s::integer[]) ORDER BY place",
        policy,
        most,
        round(window * 1_000_000),
        list(keys),
        [cost] * len(keys),
        [wanted] * len(keys),
        [debt] * len(keys),
    )
    assert [each["place"] for each in found] == list(range(1, len(keys) + 1))
    return found


def hit(conn: Session, number: int = 0, **given: Any) -> dict[str, Any]:
    (only,) = hits(conn, key(number), **given)
    return only


def set_rule(
    conn: Session, verdict: str | None, identity: UUID, *, policy: str = "", lasts: float | None = None
) -> bool:
    changed: bool = row(
        conn,
        "SELECT holdfast.rate_limit_set_rule(%s, %s, %s, make_interval(secs => %s)) AS changed",
        policy,
        identity,
        verdict,
        lasts,
    )["changed"]
    return changed


def give(conn: Session, identity: UUID, most: int, *, policy: str = "p") -> None:
    conn.execute(
        "SELECT holdfast.rate_limit_set_rule(%s, %s, 'limit', NULL, NULL, ARRAY[%s::integer], '{60000000}', '{log}',"
        " '{0}')",
        (policy, identity, most),
    )


def count(conn: Session, table: str = "rate_limit_requests") -> int:
    found: int = row(conn, f"SELECT count(*) AS n FROM holdfast.{table}")["n"]
    return found


# Deciding


def test_the_limit_is_granted_and_no_more_until_the_first_leaves_the_window(conn: Session) -> None:
    for left in (4, 3, 2, 1, 0):
        answer = hit(conn)
        assert (answer["granted"], answer["left"]) == (1, left)
        advance(conn, seconds(10))
    refused = hit(conn)
    assert (refused["granted"], refused["left"]) == (0, 0)
    assert 9 < refused["retry_after"] <= 10
    assert 49 < refused["reset_after"] <= 50
    advance(conn, seconds(float(refused["retry_after"]) + 0.001))
    assert hit(conn)["granted"] == 1
    assert hit(conn)["granted"] == 0
    assert hit(conn, 1)["granted"] == 1


def test_requests_are_granted_as_far_as_there_is_room_and_each_of_them_whole(conn: Session) -> None:
    assert hit(conn, wanted=3)["granted"] == 3
    assert hit(conn, cost=3)["granted"] == 0
    assert hit(conn, wanted=3)["granted"] == 2
    assert hit(conn, 1, wanted=9)["granted"] == 5
    assert hit(conn, 2, cost=2, wanted=9)["granted"] == 4


def test_a_debt_is_charged_whether_or_not_there_is_room(conn: Session) -> None:
    assert hit(conn, wanted=0, debt=7)["granted"] == 0
    advance(conn, seconds(59))
    assert hit(conn)["granted"] == 0
    advance(conn, seconds(1.5))
    assert hit(conn, wanted=9)["granted"] == 5


def test_several_identities_are_each_decided_new_or_known(conn: Session) -> None:
    hit(conn, 2, wanted=4)
    answers = hits(conn, key(3), key(2), key(1), wanted=3)
    assert [answer["granted"] for answer in answers] == [3, 1, 3]


def test_stamps_that_a_clock_set_back_left_in_the_future_count_from_now_on(conn: Session) -> None:
    hit(conn, wanted=5)
    advance(conn, seconds(-3600))
    assert hit(conn)["granted"] == 0
    advance(conn, seconds(61))
    assert hit(conn)["granted"] == 1


@pytest.mark.parametrize("kind", ["fixed", "gcra"])
def test_other_algorithms_recover_from_a_clock_set_back(conn: Session, kind: str) -> None:
    def ask() -> int:
        granted: int = row(
            conn,
            "SELECT answer[1] AS granted FROM holdfast.rate_limit_hits('{p}', '{1}', '{1}', '{5}', '{60000000}',"
            " ARRAY[%s], ARRAY[%s::integer], ARRAY[%s::uuid], wanted => '{5}')",
            kind,
            5 if kind == "gcra" else 0,
            key(0),
        )["granted"]
        return granted

    assert ask() == 5
    advance(conn, seconds(-3600))
    assert ask() == 0
    advance(conn, seconds(121))
    assert ask() == 5


def test_sessions_side_by_side_admit_the_limit_exactly(conn: Session, connect: Callable[[], Session]) -> None:
    granted: list[int] = []
    sessions = [connect() for _ in range(6)]

    def work(session: Session, offset: int) -> None:
        for n in range(20):
            order = [key(0), key(1), key(2)] if (n + offset) % 2 else [key(2), key(1), key(0)]
            granted.extend(answer["granted"] for answer in hits(session, *order, most=40))

    threads = [threading.Thread(target=work, args=(session, n)) for n, session in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 360, "a deadlock would have ended a session"
    assert sum(granted) == 3 * 40


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4), st.integers(1, 2)), max_size=25))
def test_no_window_ever_holds_more_than_the_limit(conn: Session, steps: list[tuple[float, int, int]]) -> None:
    conn.execute("TRUNCATE holdfast.rate_limit_requests")
    now, admitted = 0.0, list[float]()
    for step, wanted, cost in steps:
        advance(conn, seconds(step))
        now += step
        admitted += [now] * hit(conn, wanted=wanted, cost=cost)["granted"]
    for start in admitted:
        assert sum(1 for each in admitted if start <= each < start + 55) <= 5, "with slack: real time passes as well"


def test_what_is_refunded_has_room_again_and_only_that(conn: Session) -> None:
    first = hit(conn, wanted=3)
    advance(conn, seconds(5))
    hit(conn, wanted=2)
    refund = "SELECT holdfast.rate_limit_refund('p', %s, %s, %s, '{5}', '{60000000}', '{log}', '{0}') AS done"
    assert row(conn, refund, key(0), first["stamp"], 2)["done"]
    assert hit(conn, wanted=9)["granted"] == 2
    advance(conn, seconds(56))
    assert hit(conn, wanted=9)["granted"] == 1, "the one of the first three that was not refunded"
    assert not row(conn, refund, key(9), first["stamp"], 2)["done"]


def test_to_peek_changes_nothing(conn: Session) -> None:
    hit(conn, wanted=3)
    peek = "SELECT answer FROM holdfast.rate_limit_peek('p', %s, '{5}', '{60000000}', '{log}', '{0}', %s)"
    for _ in range(3):
        granted, _, left, wait, _ = row(conn, peek, key(0), 1)["answer"]
        assert (granted, left, wait) == (0, 2, 0)
    assert row(conn, peek, key(0), 3)["answer"][3] > 0
    assert row(conn, peek, key(7), 1)["answer"][2] == 5
    assert count(conn) == 1


# Rules


def test_who_is_blocked_is_refused_until_the_block_ends(conn: Session) -> None:
    assert set_rule(conn, "block", key(0), lasts=100)
    assert [answer["granted"] for answer in hits(conn, key(0), key(1))] == [0, 1]
    assert hit(conn)["verdict"] == "block"
    advance(conn, seconds(101))
    assert hit(conn)["granted"] == 1


def test_who_is_allowed_is_admitted_always_unless_blocked_elsewhere(conn: Session) -> None:
    set_rule(conn, "allow", key(0))
    assert hit(conn, wanted=9)["granted"] == 9
    assert hit(conn, cost=2, wanted=9)["granted"] == 18
    set_rule(conn, "block", key(0), policy="p")
    assert hit(conn)["granted"] == 0
    assert hit(conn, policy="other")["granted"] == 1


def test_a_tier_changes_at_once_and_the_counts_stay(conn: Session) -> None:
    assert hit(conn, wanted=9)["granted"] == 5
    give(conn, key(0), 8)
    answer = hit(conn, wanted=9)
    assert (answer["granted"], answer["rule"]) == (3, [[8], [60000000], ["log"], [0]])
    give(conn, ALL, 2)
    assert [answer["granted"] for answer in hits(conn, key(0), key(1), wanted=9)] == [0, 2], "the nearer rule wins"
    assert set_rule(conn, None, key(0), policy="p")
    assert not set_rule(conn, None, key(0), policy="p")
    assert hit(conn, wanted=9)["rule"][0] == [2]


def test_a_reset_frees_one_identity_and_is_told_to_all(conn: Session) -> None:
    def generation() -> int:
        found: int = row(conn, "SELECT generation FROM holdfast.rate_limit_state")["generation"]
        return found

    hits(conn, key(0), key(1), wanted=5)
    hit(conn, wanted=5, policy="other")
    before = generation()
    assert row(conn, "SELECT holdfast.rate_limit_reset(%s, 'p') AS n", key(0))["n"] == 1
    assert row(conn, "SELECT holdfast.rate_limit_reset(%s) AS n", key(0))["n"] == 1
    assert generation() == before + 2
    assert [answer["granted"] for answer in hits(conn, key(0), key(1))] == [1, 0]


# The beat


def beat(conn: Session, instance: int, **given: Any) -> dict[str, Any]:
    names = ", ".join(f"{name} => %s" for name in given)
    call = f"SELECT * FROM holdfast.rate_limit_beat(%s{', ' if names else ''}{names})"
    return row(conn, call, UUID(int=instance), *given.values())


def test_a_beat_tells_how_many_live_and_forgets_who_is_silent(conn: Session) -> None:
    beat(conn, 1)
    assert beat(conn, 2)["instances"] == 2
    advance(conn, seconds(11))
    assert beat(conn, 2)["instances"] == 1
    beat(conn, 1)
    conn.execute("SELECT holdfast.rate_limit_leave(%s)", (UUID(int=1),))
    assert beat(conn, 2)["instances"] == 1
    advance(conn, seconds(61))
    beat(conn, 3)
    assert count(conn, "rate_limit_instances") == 1


def test_a_beat_adds_up_what_was_decided_and_refused(conn: Session) -> None:
    hits(conn, key(0), key(1))
    for _ in range(2):
        beat(
            conn,
            1,
            policies=["p", "p"],
            sources=["cache", "postgres"],
            outcomes=["refused", "admitted"],
            decisions=[5, 7],
            refused_policies=["p", "p"],
            refused_keys=[key(1), key(9)],
            refusals=[3, 4],
        )
    totals = {
        (each["source"], each["outcome"]): each["decisions"]
        for each in rows(conn, "SELECT * FROM holdfast.rate_limit_totals")
    }
    assert totals == {("cache", "refused"): 10, ("postgres", "admitted"): 14}
    assert row(conn, "SELECT refused FROM holdfast.rate_limit_requests WHERE key = %s", key(1))["refused"] == 6


def test_invented_identities_share_rows_once_there_are_too_many(conn: Session) -> None:
    hits(conn, *[key(n) for n in range(50)])
    conn.execute("UPDATE holdfast.rate_limit_state SET is_full = true")
    invented = [UUID(int=(n % 20 << 116) + n) for n in range(1000, 1400)]
    granted = [answer["granted"] for answer in hits(conn, *invented)]
    assert count(conn) <= 50 + 20
    assert sum(granted) == 20 * 5, "20 places of 5"
    assert hit(conn, 3, wanted=9)["granted"] == 4, "who was there keeps a row of its own"
    conn.execute("SELECT pg_stat_force_next_flush()")
    assert beat(conn, 1, max_identities=10)["is_full"]
    assert not beat(conn, 1, max_identities=1000)["is_full"]


# The table


def test_what_has_left_its_window_is_forgotten(conn: Session) -> None:
    hit(conn, 0)
    set_rule(conn, "block", key(8), lasts=5)
    advance(conn, seconds(30))
    hit(conn, 1)
    advance(conn, seconds(31))
    assert row(conn, "SELECT holdfast.rate_limit_prune() AS gone")["gone"] == 1
    assert [each["key"] for each in rows(conn, "SELECT key FROM holdfast.rate_limit_requests")] == [key(1)]
    assert count(conn, "rate_limit_rules") == 0


def test_it_is_forgotten_page_by_page(conn: Session) -> None:
    hits(conn, *[key(n) for n in range(1000)])
    pages = row(conn, "SELECT pg_relation_size('holdfast.rate_limit_requests') / 8192 AS n")["n"]
    assert pages > 4
    advance(conn, seconds(61))
    gone = [row(conn, "SELECT holdfast.rate_limit_prune(%s, 2) AS n", page)["n"] for page in range(0, pages, 2)]
    assert sum(gone) == 1000
    assert max(gone) < 300


def test_a_hit_is_one_update_of_its_row_and_of_no_index(conn: Session) -> None:
    hits(conn, *[key(n) for n in range(20)], most=100_000)
    for _ in range(40):
        hits(conn, *[key(n) for n in range(20)], most=100_000)
    conn.execute("SELECT pg_stat_force_next_flush()")
    stats = row(
        conn,
        "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'rate_limit_requests'",
    )
    assert (stats["n_tup_ins"], stats["n_tup_upd"]) == (20, 20 + 800)
    assert stats["n_tup_hot_upd"] >= 0.95 * stats["n_tup_upd"]


def test_a_log_at_its_longest_stays_in_its_row(conn: Session) -> None:
    for _ in range(250):
        hit(conn, most=250)
    found = row(
        conn, "SELECT cardinality(stamps) AS n, pg_column_size(r.*) AS size FROM holdfast.rate_limit_requests r"
    )
    assert found["n"] == 250
    assert found["size"] < 8000
    toast = row(
        conn,
        "SELECT pg_relation_size(reltoastrelid) AS size FROM pg_class"
        " WHERE oid = 'holdfast.rate_limit_requests'::regclass",
    )
    assert toast["size"] == 0


# For other languages


def check(conn: Session, identity: str, most: int = 2, **given: Any) -> dict[str, Any]:
    names = "".join(f", {name} => %s" for name in given)
    return row(conn, f"SELECT * FROM holdfast.check_rate_limit(%s, %s{names})", identity, most, *given.values())


def test_another_language_asks_with_one_call(conn: Session) -> None:
    first = check(conn, "user:42")
    assert (first["allowed"], first["limit"], first["remaining"], first["retry_after"]) == (True, 2, 1, 0)
    assert check(conn, "user:42")["allowed"]
    refused = check(conn, "user:42")
    assert not refused["allowed"]
    assert 59 < refused["retry_after"] <= 60
    assert check(conn, "user:43")["allowed"]
    assert check(conn, "user:42", 100, policy="named")["remaining"] == 99
    wrapped = row(conn, "SELECT * FROM public.holdfast_check_rate_limit('user:42', 2)")
    assert not wrapped["allowed"]


def test_lists_and_tiers_hold_for_other_languages_as_well(conn: Session) -> None:
    identity = row(conn, "SELECT holdfast.rate_limit_key('user:42') AS key")["key"]
    set_rule(conn, "block", identity, lasts=100)
    refused = check(conn, "user:42")
    assert not refused["allowed"]
    assert 99 < refused["retry_after"] <= 100
    set_rule(conn, "allow", identity)
    assert [check(conn, "user:42")["allowed"] for _ in range(4)] == [True] * 4
    set_rule(conn, None, identity)
    give(conn, identity, 3, policy="2;w=60")
    assert [check(conn, "user:42")["allowed"] for _ in range(4)] == [True] * 3 + [False]
    assert check(conn, "user:42")["limit"] == 3


@pytest.mark.parametrize(
    "given",
    [{"most": 0}, {"most": None}, {"window_seconds": 0}, {"window_seconds": 1e9}, {"cost": 0}, {"cost": 3}],
)
def test_what_cannot_be_is_refused_with_what_was_given(conn: Session, given: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"check_rate_limit\(key 'user:42'"):
        check(conn, "user:42", **given)


def test_the_transaction_of_a_caller_stays_as_durable_as_it_was(conn: Session) -> None:
    with conn.transaction():
        check(conn, "user:42")
        assert row(conn, "SELECT current_setting('synchronous_commit') AS it")["it"] == "off", (
            "as the test's server has it"
        )
        conn.execute("SET LOCAL synchronous_commit = on")
        check(conn, "user:42")
        assert row(conn, "SELECT current_setting('synchronous_commit') AS it")["it"] == "on"


@pytest.mark.parametrize("name", ["user:42", "", "ü☃", "a" * 200, "a" * 201, "x" * 100_000])
def test_python_and_sql_call_an_identity_the_same(conn: Session, name: str) -> None:
    found = row(conn, "SELECT holdfast.rate_limit_key(%s) AS key, (SELECT secret FROM holdfast.rate_limit_state)", name)
    assert found["key"] == UUID(hashed(found["secret"], folded(name)))


def test_each_database_has_a_secret_of_its_own(conn: Session) -> None:
    assert len(row(conn, "SELECT secret FROM holdfast.rate_limit_state")["secret"]) == 32


@pytest.mark.parametrize("function", ["holdfast.check_rate_limit", "public.holdfast_check_rate_limit"])
def test_nobody_may_ask_who_was_not_granted_it(conn: Session, function: str) -> None:
    conn.execute("CREATE ROLE stranger")
    try:
        conn.execute("SET ROLE stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"SELECT {function}('user:42', 2)")
    finally:
        conn.execute("RESET ROLE")
        conn.execute("DROP ROLE stranger")


# As PostgREST's pre-request function


def as_postgrest(
    conn: Session, headers: dict[str, str], claims: dict[str, str] | None = None, *, read_only: bool = False
) -> dict[str, Any] | None:
    """What a request is answered: None when it goes on, else the refusal as PostgREST reads it."""
    with conn.transaction():
        if read_only:
            conn.execute("SET TRANSACTION READ ONLY")
        conn.execute("SELECT set_config('request.headers', %s, true)", (json.dumps(headers),))
        conn.execute("SELECT set_config('request.jwt.claims', %s, true)", (json.dumps(claims or {"role": "anon"}),))
        conn.execute("SELECT set_config('holdfast.rate_limit_requests', '2', true)")
        try:
            with conn.transaction():
                conn.execute("SELECT holdfast.postgrest_rate_limit()")
        except psycopg.Error as error:
            if error.sqlstate != "PGRST":
                raise
            return {**json.loads(error.diag.message_primary or ""), **json.loads(error.diag.message_detail or "")}
    return None


def test_a_request_over_http_is_refused_with_status_and_headers(conn: Session) -> None:
    headers = {"x-forwarded-for": "203.0.113.7, 192.0.2.1"}
    assert [as_postgrest(conn, headers) for _ in range(2)] == [None, None]
    refused = as_postgrest(conn, headers)
    assert refused is not None
    assert (refused["status"], refused["code"]) == (429, "quota-exceeded")
    assert 0 < int(refused["headers"]["Retry-After"]) <= 60
    assert refused["headers"]["RateLimit-Policy"] == '"default";q=2;w=60'
    assert as_postgrest(conn, {"x-forwarded-for": "192.0.2.1, 203.0.113.7"}) is None


def test_its_count_is_the_one_that_programs_share(conn: Session) -> None:
    as_postgrest(conn, {"x-forwarded-for": "192.0.2.1"})
    assert check(conn, "192.0.2.1", policy="default")["remaining"] == 0
    as_postgrest(conn, {}, {"sub": "ann"})
    assert check(conn, "user:ann", policy="default")["remaining"] == 0


def test_a_read_is_refused_while_the_limit_is_used_up_and_never_counted(conn: Session) -> None:
    headers = {"x-forwarded-for": "192.0.2.1"}
    assert [as_postgrest(conn, headers, read_only=True) for _ in range(5)] == [None] * 5
    as_postgrest(conn, headers)
    as_postgrest(conn, headers)
    refused = as_postgrest(conn, headers, read_only=True)
    assert refused is not None
    assert refused["status"] == 429


@pytest.mark.parametrize(
    ("written", "identity"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::c000:201", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("nonsense", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_address_is_called_as_in_python(conn: Session, written: str | None, identity: str) -> None:
    assert row(conn, "SELECT holdfast.rate_limit_address(%s) AS it", written)["it"] == identity


def test_a_jsonb_parameter_is_no_identity(conn: Session) -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction):
        conn.execute("SELECT holdfast.check_rate_limit(%s, 2)", (Jsonb({"user": 42}),))
