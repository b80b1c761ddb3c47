"""The demo as a user runs it: killed workers cost nothing, and it says so when something is lost or wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg


def run_demo(database: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--json", *arguments],
        env={**os.environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_killed_workers_lose_nothing_and_their_jobs_are_claimable_at_once(database: str) -> None:
    code, report = run_demo(database, "--jobs", "400", "--kill", "2", "--processes", "3", "--slots", "8")
    assert (code, report["problems"]) == (0, [])
    assert report["succeeded"] == report["submitted"] == 400
    assert (report["lost"], report["wrong"], report["dead"]) == (0, 0, 0)
    assert [(fault["what"], fault["in_flight"] >= 5) for fault in report["faults"]] == [("kill", True), ("kill", True)]
    assert all(0 <= sample < 5 for fault in report["faults"] for sample in fault["claimable"])
    assert all(len(fault["reclaimed"]) == fault["in_flight"] for fault in report["faults"])
    assert report["false_rescues"] == 0
    assert set(report["rescues"]) == {"worker_gone"}


def test_a_wrong_digest_is_seen_and_fails_the_demo(database: str, tmp_path: Path) -> None:
    (tmp_path / "steady").write_text("one two three")
    (tmp_path / "changes").symlink_to("/proc/uptime")
    code, report = run_demo(database, "--path", str(tmp_path), "--processes", "1")
    assert code == 1
    assert (report["succeeded"], report["wrong"], report["lost"]) == (2, 1, 0)


def test_a_job_that_vanishes_from_the_ledger_is_counted_as_lost(database: str, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"file{number}").write_text("some words")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM holdfast.jobs WHERE id = new.id; RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER vanish AFTER UPDATE ON holdfast.jobs FOR EACH ROW "
            "WHEN (new.status = 'succeeded' AND new.args ->> 'path' LIKE '%file1') EXECUTE FUNCTION vanish()"
        )
    code, report = run_demo(database, "--path", str(tmp_path), "--processes", "1")
    assert code == 1
    assert (report["succeeded"], report["lost"]) == (2, 1)


def test_a_demo_that_could_not_kill_in_flight_jobs_is_refused(database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--kill", "1", "--slots", "3"],
        env={**os.environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--slots 3 is too few" in done.stderr
