"""The programs in examples/: started as a user would, killed in the middle, started again, and found complete."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg import conninfo

from tests.cli.command import environment, eventually
from tests.notify.slack_server import SlackServer
from tests.sqs.local import LocalSqs
from tests.support import Session, advance, calm, row, rows, seconds

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: Minutes of a real deployment in seconds of a test. Nothing else is changed.
QUICK = {"HOLDFAST_BEAT_INTERVAL": "1", "HOLDFAST_LOST_AFTER": "5", "HOLDFAST_SWEEP_INTERVAL": "1"}


class Program:
    """One of an example's processes, with what it says in a file."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path, **given: str) -> None:
        self._log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment(PYTHONUNBUFFERED="1", **given),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, to it and to all that it started in its group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


class Example:
    """A copy of an example's folder, as somebody has it who follows its README."""

    def __init__(self, name: str, folder: Path, database: str) -> None:
        self.folder = shutil.copytree(EXAMPLES / name, folder / name)
        self._logs = folder
        self.url = as_url(database)
        self.programs: list[Program] = []

    def start(self, *command: str, **given: str) -> Program:
        log = self._logs / f"{len(self.programs)}.log"
        self.programs.append(Program(command, self.folder, log, DATABASE_URL=self.url, **(given or QUICK)))
        return self.programs[-1]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=environment(DATABASE_URL=self.url),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def explain(self) -> str:
        return "\n".join(program.text()[-3000:] for program in self.programs)


def as_url(dsn: str) -> str:
    parts = conninfo.conninfo_to_dict(dsn)
    where = f"?host={quote(str(parts['host']), safe='')}&port={parts.get('port') or 5432}"
    return f"postgresql://{parts.get('user') or ''}@/{parts['dbname']}{where}"


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, database: str, conn: Session) -> Iterator[Example]:
    calm(conn)
    made = Example(request.param, tmp_path, database)
    yield made
    for program in made.programs:
        program.end()


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [name], indirect=True, ids=[name])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def answers(url: str, example: Example) -> None:
    def look() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code < 500
        except httpx.HTTPError:
            return False

    eventually(look, example.explain)


def status(conn: Session) -> Counter[str]:
    return Counter(each["status"] for each in rows(conn, "SELECT status FROM holdfast.jobs"))


def in_the_middle(conn: Session, example: Example) -> None:
    """Some are done, some run, some wait."""
    eventually(lambda: all(status(conn)[each] for each in ("succeeded", "running", "queued")), example.explain)


def all_done(conn: Session, count: int, example: Example) -> None:
    def explain() -> str:
        return f"{status(conn)}\n{example.explain()}"

    eventually(lambda: status(conn) == {"succeeded": count}, explain)


def were_rescued(conn: Session) -> bool:
    """Otherwise nothing was killed in its middle, and the test has shown nothing."""
    return bool(row(conn, "SELECT count(*) AS jobs FROM holdfast.jobs WHERE rescues > 0")["jobs"])


@of("word_count")
def test_a_script_and_its_worker_that_are_killed_go_on_where_they_were(
    example: Example, conn: Session, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(60):
        (texts / f"{number}.txt").write_text("word " * number)
    worker = example.start("holdfast", "worker", "count")
    script = example.start("count", str(texts))
    in_the_middle(conn, example)
    script.kill()
    for child in rows(conn, "SELECT pid FROM holdfast.workers WHERE gone_at IS NULL"):
        os.kill(child["pid"], signal.SIGKILL)
    eventually(lambda: were_rescued(conn), example.explain)
    worker.kill()
    for child in rows(conn, "SELECT pid FROM holdfast.workers WHERE gone_at IS NULL"):
        gone(child["pid"])
    example.start("holdfast", "worker", "count")
    again = example.start("count", str(texts))
    assert again.process.wait(60) == 0, example.explain()
    assert again.text().splitlines()[-1] == f"60 of 60 files, {sum(range(60)):,} words"
    all_done(conn, 60, example)


@of("word_count")
def test_a_folder_without_texts_is_told(example: Example, tmp_path: Path) -> None:
    script = example.start("count", str(tmp_path))
    assert script.process.wait(20) == 1
    assert script.text() == f"there is no *.txt below {tmp_path.resolve()}\n"


def gone(pid: int) -> None:
    """A worker whose supervisor was killed drains and ends by itself; here it is killed as well."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@of("flask_signup")
def test_each_sign_up_gets_one_mail_whatever_is_killed(example: Example, conn: Session) -> None:
    port = free_port()
    serve = ("flask", "--app", "signup", "run", "--port", str(port))
    example.run("flask", "--app", "signup", "init")
    web = example.start(*serve)
    answers(f"http://127.0.0.1:{port}/", example)
    accepted = [sign_up(port, f"user{number}@example.org") for number in range(20)]
    worker = example.start("holdfast", "worker", "signup", "--slots", "4")
    in_the_middle(conn, example)
    web.kill()
    worker.kill()
    for child in rows(conn, "SELECT pid FROM holdfast.workers WHERE gone_at IS NULL"):
        gone(child["pid"])
    example.start(*serve)
    example.start("holdfast", "worker", "signup", "--slots", "4")
    answers(f"http://127.0.0.1:{port}/", example)
    accepted += [sign_up(port, f"user{number}@example.org") for number in range(20, 25)]
    all_done(conn, 25, example)
    assert were_rescued(conn)
    mails = rows(conn, "SELECT user_id, count(*) AS mails FROM mails GROUP BY user_id")
    assert {each["user_id"]: each["mails"] for each in mails} == dict.fromkeys(accepted, 1)
    assert "morning_numbers" in example.run("holdfast", "schedules", "list")


def sign_up(port: int, email: str) -> int:
    answer = httpx.post(f"http://127.0.0.1:{port}/signup", data={"email": email}, timeout=20)
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


@of("fastapi_orders")
def test_each_order_is_charged_once_though_the_only_process_is_killed(example: Example, conn: Session) -> None:
    port = free_port()
    serve = ("uvicorn", "orders:app", "--port", str(port))
    web = example.start(*serve)
    answers(f"http://127.0.0.1:{port}/orders/0", example)
    with ThreadPoolExecutor(12) as together:
        orders = dict(zip(together.map(partial(order, port), range(100, 112)), range(100, 112), strict=True))
    in_the_middle(conn, example)
    web.kill()
    example.start(*serve)
    answers(f"http://127.0.0.1:{port}/orders/0", example)
    all_done(conn, 12, example)
    assert were_rescued(conn)
    charges = rows(conn, "SELECT order_id, cents FROM charges ORDER BY id")
    assert Counter((each["order_id"], each["cents"]) for each in charges) == Counter(orders.items())
    states: Any = [httpx.get(f"http://127.0.0.1:{port}/orders/{id}", timeout=20).json()["state"] for id in orders]
    assert set(states) == {"paid"}


def order(port: int, cents: int) -> int:
    answer = httpx.post(f"http://127.0.0.1:{port}/orders", json={"cents": cents}, timeout=20)
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


@of("dead-letters")
def test_what_died_of_three_causes_is_told_three_times_and_redriven(
    example: Example, conn: Session, sqs: LocalSqs
) -> None:
    slack, name = SlackServer(), f"orders-{os.getpid()}"
    given = {
        "SQS_QUEUE_URL": sqs.url(name), "HOLDFAST_DLQ_CAPTURE": f"{name}-dlq", "HOLDFAST_DLQ_INTERVAL": "1",
        "SLACK_WEBHOOK_URL": slack.webhook, "JOBS": "40", "MESSAGES": "60",
    }  # fmt: skip
    try:
        assert example.start("shop", "break", **given).process.wait(60) == 0, example.explain()
        example.start("holdfast", "worker", "shop", **given)
        eventually(lambda: status(conn) == {"dead": 40}, example.explain)
        advance(conn, seconds(16))
        expected = {
            f"30 messages of ship (AddressUnknown) in {name}-dlq",
            f"30 messages of ship (OutOfStock) in {name}-dlq",
            "40 jobs of charge (PaymentServiceDown) went dead on payments",
        }
        eventually(lambda: expected <= {*slack.titles}, lambda: f"{slack.titles}\n{example.explain()}")
        assert "PaymentServiceDown" in example.run("holdfast", "dlq", "groups")
        example.run("shop", "mend")
        redrive = ("holdfast", "dlq", "redrive", "--cause", "PaymentServiceDown", "--canary", "10", "--yes")
        assert "done: 40 succeeded" in example.run(*redrive)
        all_done(conn, 40, example)
        advance(conn, seconds(16))
        over = "Resolved: 40 jobs of charge (PaymentServiceDown) went dead on payments"
        eventually(lambda: over in slack.titles, lambda: f"{slack.titles}\n{example.explain()}")
        assert "open for" in str(slack.posts[slack.titles.index(over)])
    finally:
        slack.close()


#: Examples whose tests need what these lack.
ELSEWHERE = {"nextjs": EXAMPLES.parent / "tests" / "supabase" / "test_nextjs.py"}


def test_every_example_has_a_readme_whose_commands_a_test_runs() -> None:
    source = Path(__file__).read_text()
    folders = sorted(path for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
    assert len(folders) == 6
    for folder in folders:
        readme = (folder / "README.md").read_text()
        assert f'@of("{folder.name}")' in source or ELSEWHERE[folder.name].exists()
        assert "```sh\n" in readme


@pytest.mark.full  # two counts with silences in between take their seconds
@of("legacy-backend")
def test_a_backend_s_stuck_jobs_are_rescued_once_its_table_is_watched(example: Example, tmp_path: Path) -> None:
    """`run` in place: what it prints before and after, and the table itself, tell."""
    done = subprocess.run(
        [str(EXAMPLES / "legacy-backend" / "run")],
        env=environment(DATABASE_URL=example.url, LOGS=str(tmp_path / "logs"), HOLDFAST_SWEEP_INTERVAL="1"),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = (line for line in done.stdout.splitlines() if line.startswith(("before: ", "after: ")))
    stuck = int(before.partition("done, ")[2].partition(" stuck")[0])
    assert stuck > 0, "nothing got stuck, and the test has shown nothing"
    assert before == f"before: {40 - stuck} of 40 exports done, {stuck} stuck in processing"
    assert f"exports: {stuck} stuck row" in done.stdout
    assert after == "after: 40 of 40 exports done, 0 stuck in processing"
    with psycopg.connect(example.url) as conn:
        states = conn.execute("SELECT status, count(*) FROM public.exports GROUP BY status").fetchall()
        rescues = conn.execute("SELECT count(DISTINCT row_id), count(*) FILTER (WHERE sent_at IS NULL)"
                               " FROM holdfast.watch_rescues").fetchone()  # fmt: skip
    assert states == [("done", 40)]
    assert rescues == (stuck, 0)


@pytest.mark.full
def test_the_legacy_backend_leaves_no_server_running() -> None:
    program = "import contextlib, demo\nwith contextlib.ExitStack() as ended: demo.database(ended)"
    here = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    with tempfile.TemporaryDirectory(prefix="holdfast-legacy-") as logs:
        Path(logs).chmod(0o755)  # as root the server runs as another user
        given = here | {"LOGS": logs, "PYTHONPATH": str(EXAMPLES / "legacy-backend")}
        subprocess.run([sys.executable, "-c", program], env=given, cwd=logs, timeout=60, check=True)
        assert (Path(logs) / "data" / "PG_VERSION").exists()
        assert not (Path(logs) / "data" / "postmaster.pid").exists()
