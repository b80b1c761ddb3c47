"""The rate limiter against plain round trips, and against its peers on the same machine.

Everybody gets what serves them best: numbers of callers and connections are tried before, and commits are not waited
for. All limits are so large that everything is admitted, except where a row says otherwise.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from bench import servers
from bench.harness import NotRun, Row, Worker, node_peers, python_peers, workers

SECONDS = 1.2
MILLION = 1_000_000
PYTHON_PEERS = ("limits==5.8.0", "redis[hiredis]==7.4.1", "throttled-py[redis]==3.5.0", "pyrate-limiter==4.5.1")
NODE_PEERS = ("rate-limiter-flexible@11.4.0", "pg@8")

PREFILL = """
INSERT INTO holdfast.rate_limit_requests (policy, key, base, stamps, sums, refused, place, granted, answer, expires_at)
SELECT 'many', holdfast.rate_limit_key('user:' || n), 0,
       ARRAY[(extract(epoch FROM clock_timestamp()) * 1000000)::bigint], ARRAY[1], 0, 1, 1,
       ARRAY[1, 0, 999999999, 0, 0], clock_timestamp() + interval '1 hour'
FROM generate_series(0, %s) AS n
ON CONFLICT DO NOTHING
"""


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        bench = Bench(dsn, base, stack.enter_context(workers()), stack)
        yield bench.rows(), bench.settings()


class Bench:
    """What the rows need: a server, and a process for each side, started when it is first asked."""

    def __init__(self, dsn: str, base: Path, start: Callable[..., Worker], stack: contextlib.ExitStack) -> None:
        self._dsn = dsn
        self._base = base
        self._start = start
        self._stack = stack
        self._workers: dict[str, Worker] = {}
        self._best: dict[str, dict[str, int]] = {}
        self._missing: dict[str, str] = {}
        self._alone = 0.0

    def settings(self) -> dict[str, str]:
        with psycopg.connect(self._dsn) as conn:
            version = conn.execute("SHOW server_version").fetchone()
            chosen = "fsync", "synchronous_commit", "shared_buffers"
            values = [conn.execute(f"SHOW {name}".encode()).fetchone() for name in chosen]
        found = {"Postgres": version[0] if version else "?"}
        found |= {name: value[0] for name, value in zip(chosen, values, strict=True) if value}
        found["psycopg"] = psycopg.__version__
        found["Redis"] = servers.redis_version()
        found["peers"] = ", ".join([*PYTHON_PEERS, *NODE_PEERS])
        found["all"] = "over TCP on loopback"
        found["commits"] = "of both limiters on Postgres not waited for (synchronous_commit off)"
        return found

    def rows(self) -> list[Row]:
        hot, many = {"keys": 1}, {"keys": 10_000}
        found = []
        for name, keys, target in (("one hot key", hot, 6), ("10,000 keys", many, 2.5)):
            found.append(
                Row(
                    f"{name}, 64 callers, against SELECT 1 through a pool",
                    "a second",
                    lambda keys=keys: self._ours(callers=64, **keys),
                    {"SELECT 1": self._select_1},
                    target,
                )
            )
        for name, keys in (("one hot key", hot), ("10,000 keys", many)):
            found.append(
                Row(
                    f"{name}, against rate-limiter-flexible on Postgres",
                    "a second",
                    lambda keys=keys: self._ours_at_best(**keys),
                    {"rate-limiter-flexible": lambda keys=keys: self._flexible(**keys)},
                    10,
                )
            )
            found.append(
                Row(
                    f"{name}, against Python's limiters on Redis",
                    "a second",
                    lambda keys=keys: self._ours_at_best(**keys),
                    {
                        "limits, fixed": lambda keys=keys: self._redis("fixed", **keys),
                        "limits, moving": lambda keys=keys: self._redis("moving", **keys),
                        "throttled-py": lambda keys=keys: self._redis("throttled", **keys),
                    },
                    5,
                    more=self._tried,
                )
            )
        for rate, target in ((1000, 5), (3000, 6), (6000, 8)):
            found.append(
                Row(
                    f"open loop, {rate:,} decisions a second, p99",
                    "ms",
                    lambda rate=rate: self._open_loop(rate),
                    target=target,
                    least=False,
                    note="the durable table; deadline 50 ms",
                    more=lambda rate=rate: self._collapse(rate),
                )
            )
        for name, keys in (("one key", hot), ("10,000 keys", many)):
            found.append(
                Row(
                    f"in memory, one thread, {name}, against Python's exact windows",
                    "a second",
                    lambda keys=keys: self._worker("ours").ask(what="memory", seconds=SECONDS, **keys)["rate"],
                    {
                        "limits, moving": lambda keys=keys: self._memory("moving", **keys),
                        **({"pyrate-limiter": lambda: self._memory("pyrate", **hot)} if keys is hot else {}),
                    },
                    1,
                )
            )
        found += [
            Row(
                "refusals of a key that is known to be full",
                "a second",
                lambda: self._worker("ours").ask(what="denied", seconds=SECONDS)["rate"],
                target=1_000_000,
            ),
            Row(
                "what the middleware adds to an admitted request",
                "µs",
                lambda: self._worker("ours").ask(what="middleware", limit="1000000000/minute")["us"],
                target=30,
                least=False,
            ),
            Row(
                "what the middleware adds to a refused request",
                "µs",
                lambda: self._worker("ours").ask(what="middleware", limit="1/day")["us"],
                target=30,
                least=False,
            ),
            Row(
                "4 processes of 64 callers on one key of 100: admitted, at least", "requests", self._exactly, target=100
            ),
            Row(
                "4 processes of 64 callers on one key of 100: admitted, at most",
                "requests",
                self._exactly,
                target=100,
                least=False,
            ),
            Row(
                "1,000,000 keys, against 10,000 keys",
                "a second",
                lambda: self._million(MILLION),
                {"10,000 keys": lambda: self._million(10_000)},
                0.75,
                more=self._size,
            ),
        ]
        return found

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = self._start(*self._command(name))
        return self._workers[name]

    def _command(self, name: str) -> tuple[str, ...]:
        peers = Path(__file__).parent / "peers"
        if name.startswith("ours"):
            return (sys.executable, "-m", "bench.ratelimit_ours", self._dsn)
        if name == "memory":
            return (python_peers(*PYTHON_PEERS), str(peers / "memory_limits.py"))
        if name == "redis":
            return (
                python_peers(*PYTHON_PEERS),
                str(peers / "redis_limits.py"),
                str(self._stack.enter_context(servers.redis(self._base))),
            )
        parts = conninfo.conninfo_to_dict(self._dsn)
        folder = node_peers(*NODE_PEERS)
        place = [str(parts[part]) for part in ("host", "port", "dbname", "user")]
        return ("node", str(peers / "flexible.mjs"), str(folder), *place)

    def _ask(self, name: str, **what: Any) -> float:
        if name in self._missing:
            raise NotRun(self._missing[name])
        try:
            found = self._worker(name).ask(**what)
        except NotRun as reason:
            self._missing[name] = str(reason)
            raise
        if "error" in found:
            raise NotRun(str(found["error"]))
        self._alone += found.get("alone", 0)
        rate: float = found["rate"]
        return rate

    def _at_best(self, name: str, choices: list[dict[str, int]], **what: Any) -> float:
        """With the numbers of callers and connections that served this side best when they were tried."""
        kind = f"{name} {what}"
        if kind not in self._best:
            tried = [(self._ask(name, **what, **each, seconds=0.5), each) for each in choices]
            self._best[kind] = max(tried, key=lambda pair: pair[0])[1]
        return self._ask(name, **what, **self._best[kind], seconds=SECONDS)

    def _ours(self, **what: int) -> float:
        return self._ask("ours", what="hits", seconds=SECONDS, **what)

    def _ours_at_best(self, **what: int) -> float:
        return self._at_best("ours", [{"callers": callers} for callers in (64, 256, 512, 1024)], what="hits", **what)

    def _select_1(self) -> float:
        choices = [{"connections": connections} for connections in (4, 10, 20)]
        return self._at_best("ours", choices, what="select_1", callers=64)

    def _flexible(self, **what: int) -> float:
        choices = [
            {"callers": callers, "connections": connections}
            for callers, connections in ((16, 16), (64, 10), (64, 20), (256, 20), (512, 40))
        ]
        return self._at_best("flexible", choices, **what)

    def _redis(self, side: str, **what: int) -> float:
        return self._at_best("redis", [{"callers": callers} for callers in (16, 64, 256, 512)], side=side, **what)

    def _memory(self, side: str, **what: int) -> float:
        return self._ask("memory", side=side, seconds=SECONDS, **what)

    def _open_loop(self, rate: int) -> float:
        found = self._worker("ours").ask(what="open_loop", side="ours", rate=rate, seconds=3.0)
        self._loop_alone = found["alone"]
        p99: float = found["p99"]
        return p99

    def _collapse(self, rate: int) -> str:
        found = self._worker("ours").ask(what="open_loop", side="single", rate=rate, seconds=3.0)
        return (
            f"one statement a decision through a pool of 10: p99 {found['p99']:.3g} ms;"
            f" ours decided {self._loop_alone:.2%} without Postgres in the last round"
        )

    def _exactly(self) -> float:
        together = [self._worker(f"ours {number}") for number in range(4)]
        key = f"hot {time.monotonic_ns()}"
        for worker in together:
            worker.begin(what="exactly", key=key, seconds=2.0)
        return float(sum(worker.result()["admitted"] for worker in together))

    def _million(self, keys: int) -> float:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            known = conn.execute("SELECT count(*) FROM holdfast.rate_limit_requests WHERE policy = 'many'").fetchone()
            if known and known[0] < MILLION:
                conn.execute(PREFILL, (MILLION - 1,))
                conn.execute("CHECKPOINT")
        found = self._worker("ours").ask(what="hits", keys=keys, callers=64, seconds=2.0)
        self._rss = found["rss"]
        rate: float = found["rate"]
        return rate

    def _size(self) -> str:
        with psycopg.connect(self._dsn) as conn:
            sizes = conn.execute(
                "SELECT pg_relation_size('holdfast.rate_limit_requests') / 2^20,"
                " pg_indexes_size('holdfast.rate_limit_requests') / 2^20"
            ).fetchone()
        assert sizes is not None
        return f"table {sizes[0]:.0f} MB, index {sizes[1]:.0f} MB, our process {self._rss:.0f} MB at its largest"

    def _tried(self) -> str:
        return "chosen: " + "; ".join(
            f"{kind.partition(' ')[0]} {chosen}" for kind, chosen in self._best.items() if "'keys'" in kind
        )
