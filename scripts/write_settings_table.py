#!/usr/bin/env python3
"""Write the README's table of settings, and `.env.example`, from the settings themselves. `--check` only compares."""

import re
import sys
import textwrap
from pathlib import Path

from holdfast.config import ALIASES, PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
README, EXAMPLE = ROOT / "README.md", ROOT / ".env.example"
BLOCK = re.compile(r"(<!-- settings -->\n).*?(<!-- end of settings -->)", re.DOTALL)


HEAD = """\
# Every setting of Holdfast with its default. Copy this file to .env, and take the # off what you change.
# What the environment says comes first, then .env, then holdfast.toml. Times are in seconds.
"""


#: The names that backends have already, by the setting's own name.
ALSO = {name: alias for alias, name in ALIASES.items()}


def shown(name: str) -> str:
    default = Settings.model_fields[name].default
    return ",".join(default) if isinstance(default, tuple | dict) else "" if default is None else f"{default}"


def table() -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        also = f" (or `{ALSO[name]}`)" if name in ALSO else ""
        rows.append(f"| `{PREFIX}{name.upper()}`{also} | {shown(name)} | {field.description} |")
    return "\n".join(rows) + "\n"


def example() -> str:
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        meaning = textwrap.fill(field.description or "", 100, initial_indent="# ", subsequent_indent="# ")
        variable = ALSO.get(name, f"{PREFIX}{name.upper()}")
        parts.append(f"{meaning}\n#{variable}={shown(name)}\n")
    return "\n".join(parts)


def main() -> int:
    current = README.read_text()
    wanted = {README: BLOCK.sub(lambda match: match[1] + table() + match[2], current), EXAMPLE: example()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" not in sys.argv:
        for path in stale:
            path.write_text(wanted[path])
        return 0
    if stale:
        print("stale:", ", ".join(path.name for path in stale))
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
