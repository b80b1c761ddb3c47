"""What workers count: each run once, whatever answers are lost."""

import asyncio

import pytest

from holdfast import Context
from holdfast.services.job_counts import JobCounts
from tests.services.helpers import app_on, relay_to, until, working
from tests.support import Session, row


def ended(conn: Session) -> dict[str, int]:
    found: dict[str, int] = row(conn, "SELECT holdfast.health_jobs() -> 'ended' AS found")["found"]
    return found


async def test_runs_are_counted_by_how_they_ended_and_how_long_they_took(database: str, conn: Session) -> None:
    app = app_on(database)
    tries: list[int] = []

    @app.job(max_attempts=2)
    async def works() -> None:
        pass

    @app.job(max_attempts=1)
    async def dies() -> None:
        raise ValueError("no")

    @app.job(max_attempts=2)
    async def works_at_last() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")

    @app.job()
    async def settles_itself(ctx: Context) -> None:
        async with ctx.transaction():
            pass

    async with working(database, app) as running:
        for kind in (works, works, dies, settles_itself):
            await kind.enqueue()
        handle = await works_at_last.enqueue()
        conn.execute("UPDATE holdfast.jobs SET retry_policy = NULL")
        await until(lambda: tries)
        conn.execute(
            "UPDATE holdfast.jobs SET run_at = holdfast.clock() WHERE id = %s AND status = 'queued'", (handle.id,)
        )
        await handle.result(timeout=30)
        await until(
            lambda: row(conn, "SELECT count(*) AS left FROM holdfast.jobs WHERE status = 'running'")["left"] == 0
        )
        await running.drained()
    found = ended(conn)
    assert [found[name] for name in ("succeeded", "failed", "dead", "cancelled")] == [4, 1, 1, 0]
    assert sum(found["waits"]) == sum(found["runs"]) == 6  # type: ignore[call-overload]
    kinds = conn.execute("SELECT DISTINCT kind FROM holdfast.job_stats WHERE minute = 'infinity' ORDER BY 1").fetchall()
    assert [each["kind"] for each in kinds] == ["dies", "settles_itself", "works", "works_at_last"]
    await app.close()


@pytest.mark.parametrize("what", ["answer", "request"])
async def test_counts_whose_telling_is_lost_are_told_again_and_count_once(
    database: str, conn: Session, what: str
) -> None:
    app = app_on(database)

    @app.job()
    async def works() -> None:
        pass

    async with relay_to(database) as relay, working(relay.dsn, app) as running:
        await (await works.enqueue()).result(timeout=30)
        counts: JobCounts = running.worker._counts
        lose = relay.lose_answer if what == "answer" else relay.lose_request
        lost = lose(b"note_job_stats")
        await counts.tell()
        await asyncio.wait_for(lost.wait(), 10)
        await (await works.enqueue()).result(timeout=30)
        await counts.tell()
        await counts.tell()
        await running.drained()
    assert ended(conn)["succeeded"] == 2
    await app.close()
