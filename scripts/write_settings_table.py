#!/usr/bin/env python3
"""Write the table of settings into the README, from the settings themselves. `--check` only compares."""

import re
import sys
from pathlib import Path

from holdfast.config import PREFIX, Settings

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- settings -->\n).*?(<!-- end of settings -->)", re.DOTALL)


def table() -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = ",".join(default) if isinstance(default, tuple) else "" if default is None else f"{default}"
        also = " (or `DATABASE_URL`)" if name == "database_url" else ""
        rows.append(f"| `{PREFIX}{name.upper()}`{also} | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    current = README.read_text()
    wanted = BLOCK.sub(lambda match: match[1] + table() + match[2], current)
    if "--check" in sys.argv:
        return int(wanted != current)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
