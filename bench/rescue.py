"""How soon stuck jobs are free again, and what looking for them costs in a large ledger."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg

from bench import servers, sides
from bench.harness import Row, workers
from bench.latency import family, is_worker
from holdfast.postgres import calls
from holdfast.postgres.ledger import SyncLedger

STALE, RUNNING, ROWS, JOBS = 100_000, 2_000, 5_000_000, 10

FILL = """
INSERT INTO holdfast.jobs (id, queue, kind, args, status, run_at, created_at, claimed_at, heartbeat_at, worker_id,
    lease)
SELECT gen_random_uuid(), 'bench', 'noop', '{}', %s, now(), now(), now(), now(), %s, 1 FROM generate_series(1, %s)
"""


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        memory = stack.enter_context(sides.memory())
        runs = memory / "ours"
        runs.write_bytes(b"")
        bench = Rescue(dsn, servers.another(dsn, "large"), sides.ours(dsn, start, runs))
        found = [
            Row("rescue of 100,000 stuck jobs of one gone worker", "jobs a second", bench.rescue, target=50_000),
            Row(
                "an empty sweep over 5,000,000 rows with 2,000 running", "ms", bench.sweep, target=5, least=False,
                note="the slowest of 50 sweeps of a round",
            ),
            Row(
                "worker process killed until all its jobs are claimed again, with its supervisor", "s", bench.killed,
                target=1, least=False, note="10 jobs a round; the last of them",
            ),
            Row(
                "worker and supervisor killed until another host's worker has claimed all its jobs", "s", bench.lost,
                target=35, least=False, note="default timings; 10 jobs a round, the last of them",
            ),
        ]  # fmt: skip
        yield found, {**servers.versions(dsn), **sides.settings()}


class Rescue:
    """One small ledger and a large one."""

    def __init__(self, dsn: str, large: str, ours: sides.Side) -> None:
        self._dsn = dsn
        self._large = large
        self._ours = ours
        self._is_filled = False

    def rescue(self) -> float:
        worker = uuid4()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE holdfast.jobs, holdfast.job_events")
            connection.execute("SELECT holdfast.register_worker(%s, '{}')", (worker,))
            connection.execute(FILL, ("running", worker, STALE))
            connection.execute("SELECT holdfast.mark_workers_gone(%s, 'crashed')", ([worker],))
            connection.execute("VACUUM ANALYZE holdfast.jobs")
        ledger = SyncLedger(self._dsn, name="bench")
        ledger.call(calls.mark_lapsed_workers())
        found, after, began = 0, None, time.perf_counter()
        while rescued := ledger.call(calls.rescue_stale_jobs(600.0, 1000, after)):
            found += len(rescued)
            after = (rescued[-1].worker_id or worker, rescued[-1].id)
        seconds = time.perf_counter() - began
        ledger.close()
        assert found == STALE, found
        return found / seconds

    def sweep(self) -> float:
        self._fill()
        ledger = SyncLedger(self._large, name="bench")
        times = []
        for _ in range(60):
            began = time.perf_counter()
            ledger.call(calls.mark_lapsed_workers())
            found = ledger.call(calls.rescue_stale_jobs(600.0, 1000))
            times.append((time.perf_counter() - began) * 1000)
            assert not found
        ledger.close()
        return max(times[10:])

    def _fill(self) -> None:
        with psycopg.connect(self._large, autocommit=True) as connection:
            if not self._is_filled:
                worker = uuid4()
                connection.execute("SELECT holdfast.register_worker(%s, '{}')", (worker,))
                connection.execute(FILL, ("succeeded", worker, ROWS))
                connection.execute(FILL, ("running", worker, RUNNING))
                connection.execute("VACUUM ANALYZE holdfast.jobs")
                self._is_filled = True
            connection.execute("UPDATE holdfast.workers SET seen_at = now() WHERE gone_at IS NULL")
            connection.execute("UPDATE holdfast.jobs SET heartbeat_at = now() WHERE status = 'running'")

    def killed(self) -> float:
        with self._running() as pid:
            victims = [each for each in family(pid) if is_worker(each)]
            at = self._now()
            for each in victims:
                os.kill(each, signal.SIGKILL)
            return self._claimed_again(at)

    def lost(self) -> float:
        with self._running() as pid:
            everybody = family(pid)
            at = self._now()
            for each in everybody:
                os.kill(each, signal.SIGKILL)
            with self._ours.working(slots=JOBS):
                return self._claimed_again(at)

    @contextlib.contextmanager
    def _running(self) -> Iterator[int]:
        """A worker in the middle of ten jobs; its supervisor's pid."""
        self._ours.ask(do="empty")
        self._ours.ask(do="sleeping", count=JOBS, seconds=3)
        with contextlib.suppress(sides.Ended), self._ours.working(slots=JOBS) as process:
            self._until("SELECT count(*) FROM holdfast.jobs WHERE status = 'running'", 30)
            yield process.pid

    def _claimed_again(self, at: float) -> float:
        self._until(f"SELECT count(*) FROM holdfast.jobs WHERE claimed_at > to_timestamp({at})", 60)
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute("SELECT extract(epoch FROM max(claimed_at))::float8 FROM holdfast.jobs").fetchone()
        return float(row[0]) - at if row else sys.float_info.max

    def _until(self, count: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while connection.execute(count.encode()).fetchone() != (JOBS,):
                if time.monotonic() > end:
                    raise TimeoutError(count)
                time.sleep(0.01)

    def _now(self) -> float:
        """By the clock that the ledger uses, which is this machine's."""
        return time.time()
