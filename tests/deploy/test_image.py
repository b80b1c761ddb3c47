"""The Dockerfile: its own steps, run in a clean root file system, since no container engine runs where the tests do."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
BUILD, RUN = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
#: The Debian whose Python stands in for the image's: 3.11 instead of 3.13. The hashes hold for both.
DEBIAN, EXTRA = "bookworm", "python3,python3-venv,ca-certificates"


def steps(stage: str) -> list[tuple[str, str]]:
    joined = stage.replace("\\\n", " ")
    return [(word, rest) for word, rest in re.findall(r"^([A-Z]+) (.+)$", joined, re.MULTILINE)]


def test_it_needs_no_root_and_is_health_checked_by_the_probe() -> None:
    found = dict(steps(RUN))
    assert found["USER"] == "10001"
    assert found["HEALTHCHECK"].endswith('CMD ["holdfast", "probe"]')
    assert [word for word, _ in steps(RUN)].index("USER") > [word for word, _ in steps(RUN)].index("COPY")


def test_what_it_installs_is_pinned_by_hashes() -> None:
    installs = [rest for word, rest in steps(BUILD) if word == "RUN" and "pip install" in rest]
    assert "--require-hashes" in installs[0]
    assert all("--no-deps" in each for each in installs)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert os.geteuid() == 0, "this needs root, for debootstrap and chroot"
    tool = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    assert tool, "debootstrap is not installed: scripts/install-system-packages --deploy"
    folder = tmp_path_factory.mktemp("image")
    command = [tool, "--variant=minbase", f"--include={EXTRA}", DEBIAN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("pip.conf", "resolv.conf", "hosts"):  # how packages are reached from here
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), folder / "etc" / name)
    for bundle in (Path("/etc/ssl/certs/ca-certificates.crt"),):
        if bundle.exists():
            shutil.copy(bundle, folder / bundle.relative_to("/"))
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    folder.chmod(0o755)  # it is the root of users who are not root
    mounted = [folder / "proc", folder / "dev"]
    subprocess.run(["mount", "-t", "proc", "proc", mounted[0]], check=True)
    subprocess.run(["mount", "--bind", "/dev", mounted[1]], check=True)
    yield folder
    for place in reversed(mounted):
        subprocess.run(["umount", "-l", place], check=True)


def inside(root: Path, command: str, *, user: str = "0", cwd: str = "/", check: bool = True) -> str:
    kept = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        ["chroot", f"--userspec={user}:{user}", root, "sh", "-ec", f"cd {cwd} && {command}"],
        env={**kept, "PATH": "/opt/holdfast/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def build(root: Path) -> None:
    """Each step as it stands; both stages in one root, so that COPY --from has nothing left to do."""
    workdir = "/"
    for word, rest in [*steps(BUILD), *steps(RUN)]:
        match word:
            case "WORKDIR":
                workdir = rest
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY" if not rest.startswith("--from"):
                *sources, target = rest.split()
                for source in sources:
                    place = root / workdir.lstrip("/") / target
                    if (ROOT / source).is_dir():
                        shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(ROOT / source, place / Path(source).name)
            case "RUN":
                inside(root, rest, cwd=workdir)


@pytest.mark.deploy
@pytest.mark.timeout(900)
def test_its_steps_run_in_a_clean_root_and_what_they_make_runs_without_root(root: Path) -> None:
    build(root)
    assert inside(root, "holdfast --version", user="10001").startswith("holdfast ")
    assert "no service" in inside(root, "holdfast probe 2>&1 || true", user="10001")
    assert "Commands:" in inside(root, "holdfast --help", user="10001")
