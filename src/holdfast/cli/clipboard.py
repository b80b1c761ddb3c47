"""The clipboard of whoever sits at this terminal, where there is one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

DEADLINE = 5.0


def copy(text: str) -> bool:
    """Put a text into the clipboard; whether that worked."""
    for command in _commands():
        if shutil.which(command[0]) is None:
            continue
        content = _for_windows(text) if command[0] in ("clip", "clip.exe") else text.encode()
        try:
            subprocess.run(
                command,
                input=content,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=DEADLINE,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return True
    return False


def _for_windows(text: str) -> bytes:
    """Windows' clip reads the console's own code page, or UTF-16 behind a mark that might be pasted with the text."""
    return text.encode("ascii" if text.isascii() else "utf-16")


def _commands() -> Iterator[list[str]]:
    if sys.platform == "win32":
        yield ["clip"]
    if sys.platform == "darwin":
        yield ["pbcopy"]
    if os.environ.get("WAYLAND_DISPLAY"):
        yield ["wl-copy"]
    if os.environ.get("DISPLAY"):
        yield ["xclip", "-selection", "clipboard"]
        yield ["xsel", "--clipboard", "--input"]
    yield ["clip.exe"]  # a Linux inside Windows
