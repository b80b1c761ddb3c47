"""The pages about FastAPI, Flask and Django: their programs, as printed, serve a request and run its job."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.cli.command import environment
from tests.support import Session

PAGES = Path(__file__).resolve().parents[1] / "docs" / "how-to"
TABLES = """
CREATE TABLE orders (id int, cents int);
CREATE TABLE charges (id int, cents int);
CREATE TABLE users (id serial, email text);
CREATE TABLE mails (email text);
"""
DJANGO_SETTINGS = """
import os
from psycopg.conninfo import conninfo_to_dict

found = conninfo_to_dict(os.environ["DATABASE_URL"])
SECRET_KEY = "of a test"
ROOT_URLCONF = "views"
ALLOWED_HOSTS = ["testserver"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": found["dbname"], "USER": found["user"], "HOST": found["host"], "PORT": str(found["port"]),
    }
}
"""
#: What drives each program: five requests are taken, the sixth is refused; then the jobs run.
DRIVERS = {
    "fastapi": """
from fastapi.testclient import TestClient
import shop
with TestClient(shop.app) as client:
    answers = [client.post("/orders", params={"number": n, "cents": 100}) for n in range(6)]
    assert client.get("/orders/" + answers[0].json()["job"]).json() == {"status": "queued"}
hf = shop.hf
""",
    "flask": """
import signup
client = signup.app.test_client()
answers = [client.post("/signup", data={"email": f"{n}@example.org"}) for n in range(6)]
assert client.get("/jobs/" + answers[0].json["job"]).json == {"status": "queued"}
hf = signup.hf
""",
    "django": """
import tasks
from django.test import Client
answers = [Client().post("/signup", {"email": f"{n}@example.org"}) for n in range(6)]
hf = tasks.hf
""",
}
RUN_ALL = """
assert [answer.status_code for answer in answers] == [202] * 5 + [429]
import asyncio, psycopg
async def run_all():
    async with hf, hf.worker(slots=2):
        with psycopg.connect(hf.database.dsn, autocommit=True) as conn:
            while conn.execute("SELECT FROM holdfast.jobs WHERE status <> 'succeeded'").fetchall():
                await asyncio.sleep(0.02)
asyncio.run(asyncio.wait_for(run_all(), 60))
"""


@pytest.mark.parametrize("framework", DRIVERS)
def test_the_program_of_the_page_serves_and_its_jobs_run(
    framework: str, database: str, conn: Session, tmp_path: Path
) -> None:
    page = (PAGES / f"{framework}.md").read_text()
    programs = re.findall(r"`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert programs
    for name, program in programs:
        (tmp_path / name).write_text(program)
    (tmp_path / "shop_settings.py").write_text(DJANGO_SETTINGS)
    (tmp_path / "drive.py").write_text(DRIVERS[framework] + RUN_ALL)
    conn.execute(TABLES.encode())
    found = conninfo_to_dict(database)
    url = f"postgresql://{found['user']}@/{found['dbname']}?{urlencode({'host': found['host'], 'port': found['port']})}"
    done = subprocess.run(
        [sys.executable, "drive.py"],
        cwd=tmp_path, env=environment(DATABASE_URL=url), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (jobs,) = conn.execute("SELECT count(*) AS jobs FROM holdfast.jobs WHERE status = 'succeeded'").fetchall()
    assert jobs == {"jobs": 5}
