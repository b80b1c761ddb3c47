"""The clipboard: the first program that is there and works; none, and nothing is lost."""

from pathlib import Path

import pytest

from holdfast.cli import clipboard


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_text_goes_to_the_program_of_this_desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "xclip", f'printf "%s " "$@" > {tmp_path}/asked; cat > {tmp_path}/copied')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert clipboard.copy("SELECT 'ä';\n")
    assert (tmp_path / "copied").read_text() == "SELECT 'ä';\n"
    assert (tmp_path / "asked").read_text() == "-selection clipboard "


def test_one_that_fails_leaves_it_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "wl-copy", "exit 1")
    program(tmp_path, "xsel", f"cat > {tmp_path}/copied")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert clipboard.copy("text")
    assert (tmp_path / "copied").read_text() == "text"


def test_without_one_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not clipboard.copy("text")


@pytest.mark.parametrize(("text", "came"), [("SELECT 1;\n", b"SELECT 1;\n"), ("'\u00e4'", b"\xff\xfe'\0\xe4\0'\0")])
def test_windows_gets_what_it_can_read_whatever_its_code_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, came: bytes
) -> None:
    program(tmp_path, "clip.exe", f"cat > {tmp_path}/copied")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert clipboard.copy(text)
    assert (tmp_path / "copied").read_bytes() == came
