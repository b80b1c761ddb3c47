"""Values on their way through JSON, against what a real Postgres writes and the driver reads."""

import json
from datetime import timedelta

import pytest

from holdfast.postgres.rest_values import decode, encode
from tests.support import Session, row


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "1 second",
        "-3 seconds",
        "26 hours",
        "2 days 00:00:01.5",
        "1 year 2 mons 3 days",
        "-1 day +02:03:04",
        "90 min",
    ],
)
def test_an_interval_is_read_as_the_driver_reads_it(conn: Session, text: str) -> None:
    found = row(conn, "SELECT %s::interval AS plain, to_jsonb(%s::interval) AS json", text, text)
    assert decode(found["json"], "interval") == found["plain"]


def test_what_is_read_is_of_the_driver_s_types(conn: Session) -> None:
    plain = row(
        conn,
        "SELECT gen_random_uuid() AS a, clock_timestamp() AS b, '\\x00ff'::bytea AS c, ARRAY[gen_random_uuid()] AS d,"
        " '{\"x\": 1.5}'::jsonb AS e, NULL::uuid AS f, true AS g, 7::bigint AS h",
    )
    types = ("uuid", "timestamptz", "bytea", "uuid[]", "jsonb", "uuid", "boolean", "bigint")
    sent = row(conn, "SELECT to_jsonb(x) AS j FROM (SELECT %s AS a, %s AS b, %s AS c, %s AS d) AS x",
               plain["a"], plain["b"], plain["c"], plain["d"])["j"]  # fmt: skip
    for name, type in zip("abcd", types, strict=False):
        assert decode(sent[name], type) == plain[name]
    for name, type in zip("efgh", types[4:], strict=True):
        assert decode(plain[name], type) == plain[name]


def test_what_is_sent_is_read_by_postgres_as_what_it_was(conn: Session) -> None:
    for value, type in (
        (timedelta(days=2, microseconds=7), "interval"),
        (timedelta(seconds=-1.5), "interval"),
        (b"\x00\xff", "bytea"),
        (row(conn, "SELECT clock_timestamp() AS t")["t"], "timestamptz"),
    ):
        sent = json.dumps({"v": encode(value, type)})
        assert row(conn, f"SELECT v FROM json_to_record(%s) AS r (v {type})", sent)["v"] == value


def test_arrays_may_come_as_postgres_writes_them() -> None:
    assert encode("{1,2}", "integer[]") == ["1", "2"]
    assert encode(["{}", None], "jsonb[]") == [{}, None]
    assert encode("{}", "uuid[]") == []
