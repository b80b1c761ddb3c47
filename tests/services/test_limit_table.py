"""The doctor's lines about the table of the rate limits' counts."""

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from holdfast.core.findings import Finding, Verdict
from holdfast.core.ratelimit import Policy
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.rate_limit import TableHealth, rate_limit_hits, rate_limit_key, rate_limit_table
from holdfast.services.checks.limit_table import LINES, judge
from tests.services.helpers import until

WELL = TableHealth(1000, 2**20, 2**20, 0.98, 12, None, None, 2, False)


def found(table: TableHealth, id: str) -> Finding:
    (line,) = [each for each in judge(table) if each.id == id]
    return line


def test_a_table_that_is_well_passes_on_each_line() -> None:
    assert {each.id: each.verdict for each in judge(WELL)} == dict.fromkeys(LINES, Verdict.PASS)
    assert found(WELL, "limits.room").found == "1,000 identities, 2.0 MB"
    assert found(replace(WELL, hot_ratio=None), "limits.hot_updates").found == "not updated yet"


@pytest.mark.parametrize(
    ("change", "id", "said", "fix"),
    [
        ({"hot_ratio": 0.31}, "limits.hot_updates", "31% of its updates were HOT", "VACUUM"),
        (
            {"oldest_transaction": timedelta(seconds=95), "oldest_pid": 4711},
            "limits.old_transaction",
            "of process 4711, is open for 95 s",
            "pg_terminate_backend(4711)",
        ),
        ({"is_full": True}, "limits.room", "full, so new ones share places", "holdfast limits top"),
    ],
)
def test_what_slows_it_is_told_with_the_way_out(change: dict[str, object], id: str, said: str, fix: str) -> None:
    line = found(replace(WELL, **change), id)  # type: ignore[arg-type]
    assert line.verdict is Verdict.WARN
    assert said in line.found
    assert fix in line.fix


async def test_the_oldest_transaction_of_this_database_is_named(database: str) -> None:
    ledger = AsyncLedger(database)
    with (
        psycopg.connect(database, dbname="postgres") as elsewhere,
        psycopg.connect(database) as first,
        psycopg.connect(database) as second,
    ):
        for each in (elsewhere, first, second):
            each.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            each.execute("SELECT 1")
            each.execute("SELECT pg_current_xact_id()")  # so that the next one's snapshot is a younger one
        table = await ledger.one(rate_limit_table())
        assert table.oldest_pid == first.info.backend_pid
    await ledger.close()


async def test_updates_of_a_hot_row_are_hot(database: str) -> None:
    ledger = AsyncLedger(database)
    policy = Policy.parse("1000000/hour")
    key = await ledger.one(rate_limit_key("user:42"))
    for _ in range(200):
        await ledger.call(rate_limit_hits([policy], [key.hex], [1], [1], [0]))

    async def is_counted() -> TableHealth | None:
        table = await ledger.one(rate_limit_table())
        return table if table.hot_ratio is not None else None

    table = await until(is_counted)
    await ledger.close()
    assert table.hot_ratio >= 0.9
