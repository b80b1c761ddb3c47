"""Health: how fast probes and `/api/health` answer while everything hangs; what looking costs at 10,000,000 jobs."""

import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg

from bench import servers
from bench.harness import HERE, ROUNDS, NotRun, Row, Worker, workers
from holdfast.core.health import PARTS

RATE, SECONDS = 500.0, 6.0
JOBS = 10_000_000
URLS = {"/livez": 200, "/readyz": 200, "/startupz": 200}


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        silent = stack.enter_context(_silent())
        url = stack.enter_context(_api(dsn, base, f"http://127.0.0.1:{silent}/0/silent"))
        load = start(sys.executable, str(HERE / "health_load.py"))
        bare = stack.enter_context(_bare())
        yield _rows(dsn, base, url, bare, load), {"rate": f"{RATE:g} requests a second, open loop", "jobs": f"{JOBS:,}"}


def _rows(dsn: str, base: Path, url: str, bare: str, load: Worker) -> list[Row]:
    slowest: dict[str, float] = {}
    plain: list[float] = []

    def answers(expected: int, fault: Callable[[], contextlib.AbstractContextManager[None]]) -> Callable[[], float]:
        """The slowest address's 99th percentile, in milliseconds, while a fault lasts."""

        def once() -> float:
            with fault():
                _until(lambda: httpx.get(f"{url}/api/health", headers={"Via": "x"}).status_code == expected)
                for path, code in {**URLS, "/api/health": expected}.items():
                    found = load.ask(url=f"{url}{path}", rate=RATE, seconds=SECONDS / len(URLS), expected=code)
                    if found["wrong"]:
                        raise NotRun(f"{path}: {found['wrong']} answers were wrong or none")
                    slowest[path] = found["p99"]
                bare_found = load.ask(url=bare, rate=RATE, seconds=SECONDS / len(URLS), expected=200)
                plain.append(bare_found["p99"] * 1000)
            return max(slowest.values()) * 1000

        return once

    def stopped() -> contextlib.AbstractContextManager[None]:
        return _stopped(base)

    def hanging() -> contextlib.AbstractContextManager[None]:
        return _locked(dsn)

    def beside() -> str:
        """What this machine could do at best just then."""
        return f"a bare uvicorn beside it: {statistics.median(plain[-ROUNDS:]):.3g} ms"

    rates: list[str] = []

    def wrk() -> float:
        _until(lambda: httpx.get(f"{url}/readyz").status_code == 200)  # it has seen the schema
        with _stopped(base):
            _until(lambda: httpx.get(f"{url}/api/health", headers={"Via": "x"}).status_code == 503)
            return float(sum(_wrk(f"{url}{path}", code, rates) for path, code in {**URLS, "/api/health": 503}.items()))

    what, most = "p99 of the slowest address", 5
    return [
        Row(f"{what}, SQS silent", "ms", answers(200, contextlib.nullcontext), target=most, least=False, more=beside),
        Row(f"{what}, a check hangs, SQS silent", "ms", answers(200, hanging), target=most, least=False, more=beside),
        Row(f"{what}, Postgres and SQS stopped", "ms", answers(503, stopped), target=most, least=False, more=beside),
        Row(
            "errors at the highest rate that wrk reaches, Postgres stopped",
            "errors", wrk, target=0, least=False, more=lambda: ", ".join(rates[-len(URLS) - 1 :]),
        ),
        Row(f"one refresh of everything at {JOBS:,} jobs", "ms of the database", _refresh(dsn), target=50, least=False),
    ]  # fmt: skip


@contextlib.contextmanager
def _api(dsn: str, base: Path, queue: str, **settings: str) -> Iterator[str]:
    """The API as users run it, but for these settings; where it answers."""
    environment = {
        **os.environ, "DATABASE_URL": dsn, "HOLDFAST_RUN_DIR": str(base / "run"), "HOLDFAST_SQS_QUEUE_URL": queue,
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x",
        **settings,
    }  # fmt: skip
    port = servers.free_port()
    command = [sys.executable, "-m", "holdfast", "api", "--port", str(port)]
    with (base / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=base)
    try:
        servers.wait_for(port, process)
        with psycopg.connect(dsn, autocommit=True) as conn:  # as if monitors swept, and one worker lived
            conn.execute("SELECT holdfast.register_worker(gen_random_uuid(), '{\"lost_after\": 100000}')")
            conn.execute("UPDATE holdfast.monitors SET every = '1 day', swept_at = holdfast.clock()")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def _bare() -> Iterator[str]:
    """A server that does nothing but answer; its address."""
    port = servers.free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "bare_http.py"), str(port)])
    try:
        servers.wait_for(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _stopped(base: Path) -> Iterator[None]:
    """Postgres with all its processes stopped: it keeps every connection, and answers nothing."""
    first = int((base / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    everything = [first, *map(int, children)]
    for pid in everything:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _locked(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn) as conn:
        conn.execute("LOCK holdfast.notifications IN ACCESS EXCLUSIVE MODE")
        yield
        conn.rollback()


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield server.getsockname()[1]


def _wrk(url: str, expected: int, rates: list[str]) -> int:
    """Errors in a closed loop at full speed: timeouts, broken connections, other answers than expected."""
    program = shutil.which("wrk")
    if program is None:
        raise NotRun("wrk is not installed: apt-get install wrk")
    command = [program, "-t1", "-c64", "-d3s", "--timeout", "5s", "-H", "Via: 1.1 bench", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    many = re.search(r"([\d.]+)", text.partition("Requests/sec:")[2])
    total = re.search(r"(\d+) requests in", text)
    assert many is not None
    assert total is not None
    rates.append(f"{url.partition('/')[2].partition('/')[2].partition('/')[2]} {float(many[1]):,.0f} a second")
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = int(other[1]) if other else 0
    wrong = abs(failed - int(total[1])) if expected == 503 else failed
    return wrong + (sum(map(int, broken.groups())) if broken else 0)


def _refresh(dsn: str) -> Callable[[], float]:
    """The database's own time for all looks together, on a ledger that is filled when it is first asked."""

    def once() -> float:
        with psycopg.connect(dsn, autocommit=True) as conn:
            _fill(conn)
            texts = [f"SELECT holdfast.health_{part}()" for part in PARTS]
            return sum(_took(conn, text) for text in texts)

    return once


def _took(conn: "psycopg.Connection[tuple[object, ...]]", text: str) -> float:
    found = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode()).fetchone()
    assert found is not None
    plan = found[0][0]  # type: ignore[index]
    return float(plan["Execution Time"]) + float(plan["Planning Time"])


def _fill(conn: "psycopg.Connection[tuple[object, ...]]") -> None:
    found = conn.execute("SELECT count(*) FROM (SELECT FROM holdfast.jobs LIMIT 1) j").fetchone()
    if found == (1,):
        return
    print(f"         filling {JOBS:,} jobs…", file=sys.stderr)
    conn.execute("SET synchronous_commit = off")
    # Half of them wait, in 50 queues; of the others one in 100 is dead; 1,000 run.
    for step in range(10):
        conn.execute(
            "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at, status, claimed_at, finished_at,"
            "                           worker_id)"
            " SELECT gen_random_uuid(), 'queue-' || n %% 50, 'kind-' || n %% 7, '{}', t.now, t.now, s.status,"
            "   CASE WHEN s.status <> 'queued' THEN t.now END,"
            "   CASE WHEN s.status IN ('succeeded', 'dead') THEN t.now END,"
            "   CASE WHEN s.status = 'running' THEN w.id END"
            " FROM generate_series(1, %s) AS n"
            " CROSS JOIN (SELECT clock_timestamp() - interval '10 minutes' AS now) t"
            " CROSS JOIN (SELECT id FROM holdfast.workers LIMIT 1) w"
            " CROSS JOIN LATERAL (SELECT CASE WHEN n <= 100 THEN 'running' WHEN n %% 2 = 0 THEN 'queued'"
            "   WHEN n %% 200 = 1 THEN 'dead' ELSE 'succeeded' END AS status) s",
            (JOBS // 10,),
        )
        print(f"         {(step + 1) * JOBS // 10:,}", file=sys.stderr)
    # Of the last hour, as 350 pairs of queue and kind would have told it.
    conn.execute(
        "INSERT INTO holdfast.job_stats (minute, queue, kind, succeeded, waits, runs, last_at)"
        " SELECT m, 'queue-' || q, 'kind-' || k, 10, array_fill(1, ARRAY[19]), array_fill(1, ARRAY[19]),"
        "        clock_timestamp()"
        " FROM (SELECT date_trunc('minute', clock_timestamp()) - interval '1 minute' * n AS m"
        "       FROM generate_series(0, 59) n UNION ALL SELECT 'infinity') t,"
        "      generate_series(0, 49) q, generate_series(0, 6) k"
    )
    conn.execute("VACUUM ANALYZE holdfast.jobs")
    conn.execute("VACUUM ANALYZE holdfast.job_stats")


def _until(look: Callable[[], bool], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.1)
    raise NotRun(f"the watch did not see it within {within:g} s")
