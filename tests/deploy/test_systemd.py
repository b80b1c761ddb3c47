"""Units of systemd: read by its own tool, and the service tells its manager what they rely on."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from holdfast.cli.main import application
from holdfast.cli.systemd import Systemd
from holdfast.config import Settings
from tests.cli.command import eventually, running

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())


class Manager:
    """What systemd is to a service: a socket that hears."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def hears(self, line: str) -> bool:
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return line in self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_a_service_says_that_it_is_ready_alive_and_stopping(database: str, tmp_path: Path, manager: Manager) -> None:
    where = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "900000", "HOLDFAST_RUN_DIR": str(tmp_path / "run")}
    with running("monitor", "stale", cwd=tmp_path, DATABASE_URL=database, **where) as service:
        eventually(lambda: manager.hears("READY=1"), service.explain)
        manager.heard.clear()
        eventually(lambda: manager.hears("WATCHDOG=1"), service.explain)
        assert "STOPPING=1" not in manager.heard
        service.signal(signal.SIGTERM)
        assert service.ends() == 0
    assert manager.hears("STOPPING=1")


async def test_who_makes_no_progress_feeds_no_watchdog(manager: Manager) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "30000"})
    looks: list[bool] = []

    def is_alive() -> bool:
        looks.append(False)
        return False

    task = asyncio.create_task(systemd.accompany(lambda: True, is_alive, lambda: False))
    while len(looks) < 3:
        await asyncio.sleep(0)
    task.cancel()
    assert manager.hears("READY=1")
    assert "WATCHDOG=1" not in manager.heard


async def test_without_systemd_nothing_is_said() -> None:
    await Systemd({}).accompany(lambda: True, lambda: True, lambda: True)


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    assert Systemd({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog is None


@pytest.mark.parametrize("unit", [each for each in UNITS if each.suffix == ".service"], ids=lambda each: each.name)
def test_a_unit_s_command_settings_and_times_fit(unit: Path) -> None:
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=/opt/holdfast/bin/holdfast (.+)$", text, re.MULTILINE)
    assert command.split()[0] in get_command(application()).commands  # type: ignore[attr-defined]
    told = dict(re.findall(r"HOLDFAST_(\w+)=(\S+)", text))
    assert {name.lower() for name in told} <= set(Settings.model_fields)
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    if "DRAIN_TIMEOUT" in told:
        assert told["TERMINATION_GRACE"] == stop
        Settings(drain_timeout=float(told["DRAIN_TIMEOUT"]), termination_grace=float(stop))


@pytest.mark.deploy
def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is not installed: scripts/install-system-packages --deploy"
    for unit in UNITS:
        text = unit.read_text().replace("/opt/holdfast/bin/holdfast", str(Path(sys.executable).parent / "holdfast"))
        (tmp_path / unit.name).write_text(text.replace("file:/opt/holdfast/docs/how-to/systemd.md", "man:systemd(1)"))
    names = [str(tmp_path / unit.name.replace("@.", "@stale.")) for unit in UNITS]
    for name in names:
        if "@stale" in name:
            shutil.copy(name.replace("@stale", "@"), name)
    done = subprocess.run([tool, "verify", "--man=no", *names], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "holdfast" in line]
    assert (done.returncode, ours) == (0, [])
