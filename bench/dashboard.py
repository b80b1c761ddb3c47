"""Dashboard: how long the server takes for each page with 10,000,000 jobs in the ledger."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import httpx
import psycopg

from bench import health, servers
from bench.harness import NotRun, Row, workers

#: Requests of each page in a round, after one that does not count. All rounds fit into what pages admit a minute.
REQUESTS = 4
PAGES = {
    "home": "",
    "home, 7 days": "?range=7d",
    "jobs": "jobs",
    "queued": "jobs?status=queued",
    "running": "jobs?status=running",
    "succeeded": "jobs?status=succeeded",
    "dead": "jobs?status=dead",
    "by a path of the arguments that nobody has": "jobs?args=nobody.has=this",
    "by an error that nobody has": "jobs?status=dead&error=nothing",
    "of a queue": "jobs?queue=q7",
    "one job": "jobs/{id}",
    "queues": "queues",
    "workers": "workers",
    "dead letters": "dead-letters",
    "incidents": "incidents",
    "operations": "operations",
    "preview": "operations/new?action=retry&status=dead",
    "periodic": "periodic",
    "limits": "limits",
    "audit": "audit",
    "system": "system",
}


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        stack.enter_context(workers())
        with psycopg.connect(dsn, autocommit=True) as conn:
            from holdfast.postgres.migrate import migrate_up

            migrate_up(dsn)
            worker = '{"queues": ["queue-1"], "kinds": ["kind-1"], "slots": 100}'
            conn.execute("SELECT holdfast.register_worker(gen_random_uuid(), %s::jsonb)", (worker,))
            health._fill(conn)
            conn.execute("VACUUM ANALYZE holdfast.jobs")
            found = conn.execute("SELECT id FROM holdfast.jobs ORDER BY id DESC LIMIT 1").fetchone()
        assert found is not None
        url = stack.enter_context(health._api(dsn, base, "", HOLDFAST_RATE_LIMIT="100000/minute"))
        slowest: list[str] = []
        name = f"the slowest of {len(PAGES)} pages at {health.JOBS:,} jobs"
        once = _slowest(url, str(found[0]), slowest)
        yield (
            [Row(name, "ms", once, target=100, least=False, more=lambda: slowest[-1])],
            {"jobs": f"{health.JOBS:,}"},
        )


def _slowest(url: str, id: str, told: list[str]) -> Callable[[], float]:
    """The largest of the pages' medians, in milliseconds, seen by a client on a kept connection."""

    def once() -> float:
        with httpx.Client(base_url=f"{url}/dashboard/", timeout=30, headers={"Accept-Encoding": "gzip"}) as client:
            took = {name: _median(client, path.format(id=id)) for name, path in PAGES.items()}
        name = max(took, key=took.__getitem__)
        told.append(f"{name}: {took[name]:.0f} ms; the median page {statistics.median(took.values()):.0f} ms")
        return took[name]

    return once


def _median(client: httpx.Client, path: str) -> float:
    took = []
    for number in range(REQUESTS + 1):
        began = time.perf_counter()
        answer = client.get(path)
        if answer.status_code != 200:
            raise NotRun(f"/{path} answered {answer.status_code}")
        if number:
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
