"""What Postgres itself can do: claims and inserts without leases, in a process of its own (see bench/harness.py)."""

import json
import sys
import time
import uuid
from typing import Any

import psycopg

PAYLOAD = json.dumps({"payload": "x" * 185})
TABLE = """
CREATE TABLE IF NOT EXISTS public.bare_jobs (
    id uuid PRIMARY KEY, payload jsonb NOT NULL, status text NOT NULL DEFAULT 'queued',
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(), heartbeat_at timestamptz, finished_at timestamptz);
CREATE INDEX IF NOT EXISTS bare_claim ON public.bare_jobs (run_at, id) WHERE status = 'queued';
CREATE INDEX IF NOT EXISTS bare_running ON public.bare_jobs (heartbeat_at) WHERE status = 'running'
"""
CLAIM = """
WITH c AS (SELECT id FROM public.bare_jobs WHERE status = 'queued' ORDER BY run_at, id LIMIT 100
           FOR UPDATE SKIP LOCKED)
UPDATE public.bare_jobs j SET status = 'running', heartbeat_at = clock_timestamp() FROM c WHERE j.id = c.id
RETURNING j.id, j.payload
"""
FINISH = "UPDATE public.bare_jobs SET status = 'done', finished_at = clock_timestamp() WHERE id = ANY(%s)"
INSERT = "INSERT INTO public.bare_jobs (id, payload) VALUES (%s, %s)"
UNNEST = (
    "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at)"
    " SELECT u.id, 'bench', 'noop', u.args, clock_timestamp(), clock_timestamp()"
    " FROM unnest(%s::uuid[], %s::jsonb[]) AS u (id, args) RETURNING id"
)


def answer(connection: "psycopg.Connection[Any]", what: dict[str, Any]) -> dict[str, Any]:
    count = what.get("count", 0)
    began = time.monotonic()
    match what["do"]:
        case "fill":
            connection.execute("TRUNCATE public.bare_jobs")
            connection.execute(
                "INSERT INTO public.bare_jobs (id, payload) SELECT gen_random_uuid(), %s FROM generate_series(1, %s)",
                (PAYLOAD, count),
            )
            connection.execute("VACUUM ANALYZE public.bare_jobs")
        case "drain":
            jobs = 0
            end = began + what.get("seconds", 3600.0)
            while time.monotonic() < end and (claimed := connection.execute(CLAIM).fetchall()):
                connection.execute(FINISH, ([id for id, _ in claimed],))
                jobs += len(claimed)
            return {"jobs": jobs, "begin": began, "end": time.monotonic()}
        case "one":
            for _ in range(count):
                connection.execute(INSERT, (uuid.uuid4(), PAYLOAD))
        case "many":
            connection.execute("TRUNCATE holdfast.jobs")
            began = time.monotonic()
            with connection.transaction():
                for start in range(0, count, 1000):
                    few = min(1000, count - start)
                    connection.execute(UNNEST, ([uuid.uuid4() for _ in range(few)], [PAYLOAD] * few)).fetchall()
    return {"rate": count / (time.monotonic() - began)}


def main() -> None:
    with psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=0) as connection:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(1)")
            for statement in TABLE.split(";"):
                connection.execute(statement.encode(), prepare=False)
        for line in sys.stdin:
            print(json.dumps(answer(connection, json.loads(line))), flush=True)


main()
