#!/usr/bin/env python3
"""Write the reference pages from what they describe: commands, settings, events, functions of SQL, the HTTP API.

python scripts/write_reference.py           write docs/reference/{cli,settings,events,sql,http}.md
python scripts/write_reference.py --check   fail if they are not what this script would write
"""

import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from holdfast import events
from holdfast.cli.main import EXIT_CODES, application
from holdfast.config import ALIASES, PREFIX, Settings
from holdfast.web.app import create_app
from holdfast.web.services import ApiServices, ApiSettings

ROOT = Path(__file__).resolve().parent.parent
FOLDER, FUNCTIONS = ROOT / "docs" / "reference", ROOT / "src" / "holdfast" / "postgres" / "functions"
NOTE = "<!-- Written by scripts/write_reference.py; do not edit. -->\n"


def cell(text: object) -> str:
    """Text for a table, on one line."""
    return re.sub(r"\s+", " ", str(text or "")).replace("|", "\\|").strip()


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell(each) for each in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def commands() -> str:
    parts = [f"# Commands\n\n{NOTE}\n{EXIT_CODES}\n"]
    parts += [_command("holdfast", get_command(application()))]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    described = inspect.cleandoc(command.help or "").replace("\f", "")
    group: dict[str, Any] = getattr(command, "commands", {})
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    usage = " ".join([name, *(_argument(each) for each in shown if each.param_type_name == "argument")])
    usage += " [OPTIONS]" if any(each.param_type_name == "option" for each in shown) else ""
    usage += " COMMAND ..." if group else ""
    parts = [f"## {name}\n", described + "\n", f"```\n{usage}\n```\n"]
    if shown:
        parts.append(table(("", "default", "meaning"), [_parameter(each) for each in shown]))
    parts += [_command(f"{name} {each}", held) for each, held in group.items() if not held.hidden]
    return "\n".join(parts)


def _argument(each: Any) -> str:
    name = (each.metavar or each.name or "").upper().strip("[]")
    return name if each.required else f"[{name}]"


def _parameter(each: Any) -> tuple[str, str, str]:
    names = [*each.opts, *each.secondary_opts]
    label = _argument(each) if each.param_type_name == "argument" else ", ".join(names)
    default = each.default if each.default not in (None, False, (), []) and not callable(each.default) else ""
    return f"`{label}`", f"`{default}`" if default != "" else "", getattr(each, "help", "") or ""


def settings() -> str:
    also = {name: alias for alias, name in ALIASES.items()}
    parts = [
        f"# Settings\n\n{NOTE}",
        "From arguments, the environment, a file `.env`, or `holdfast.toml` (names in lower case, without the prefix),"
        " in this order. Times are in seconds. A name that does not exist is refused, with the one that was meant.\n",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = ",".join(default) if isinstance(default, tuple | dict) else "" if default is None else str(default)
        lines = [f"- in holdfast.toml: `{name}`", f"- default: `{shown}`" if shown else "- default: none"]
        if name in also:
            lines.insert(0, f"- also read from: `{also[name]}`")
        parts.append(f"## {PREFIX}{name.upper()}\n\n{field.description}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def happenings() -> str:
    parts = [
        f"# Events\n\n{NOTE}",
        "What happens, as frozen data, one class an event (`holdfast.events`). Logs, metrics and OpenTelemetry are"
        " sinks that receive them; a sink that fails never fails a job.\n",
    ]
    for name, value in vars(events).items():
        if inspect.isclass(value) and is_dataclass(value) and value.__module__ == events.__name__:
            rows = [(f"`{each.name}`", f"`{_type(each.type)}`") for each in fields(value)]
            parts.append(f"## {name}\n\n{inspect.getdoc(value)}\n\n{table(('field', 'type'), rows) if rows else ''}")
    return "\n".join(parts)


def _type(found: object) -> str:
    text = found.__name__ if inspect.isclass(found) and not hasattr(found, "__args__") else str(found)
    return text.replace("datetime.", "").replace("uuid.", "").replace("typing.", "")


_HEADER = re.compile(r"CREATE OR REPLACE FUNCTION (holdfast\.\w+\(.*?\))\s+(?:RETURNS (.*?)\s+)?LANGUAGE", re.DOTALL)


def functions() -> str:
    parts = [
        f"# Functions of SQL\n\n{NOTE}",
        "The protocol lives in these: one implementation for every caller. Each is a single statement, runs with its"
        " caller's rights and sees no other schema than its own; a signature never changes. How a worker in another"
        " language uses them: [the protocol](protocol.md). On Supabase each is also `public.holdfast_...`.\n",
    ]
    for path in sorted(FUNCTIONS.glob("*.sql")):
        text = path.read_text()
        for found in _HEADER.finditer(text):
            signature = re.sub(r"\s+", " ", found[1]).replace("( ", "(").replace(" )", ")")
            above = text[: found.start()].rstrip().splitlines()
            comment: list[str] = []
            while above and above[-1].startswith("--"):
                comment.insert(0, above.pop().removeprefix("--").removeprefix(" "))
            name = signature.partition("(")[0].removeprefix("holdfast.")
            returns = "\n  RETURNS " + re.sub(r"\s+", " ", found[2]) if found[2] else ""
            about = "\n".join(comment)
            parts.append(f"## {name}\n\n```sql\n{signature}{returns}\n```\n\n```text\n{about}\n```\n")
    return "\n".join(parts)


def http() -> str:
    app = create_app(ApiServices(ApiSettings("postgresql:///none", 0)))
    document = app.openapi()
    parts = [f"# HTTP API\n\n{NOTE}", document["info"]["description"], ""]
    parts.append("`GET /api/openapi.json` is the whole description, OpenAPI 3.1, of the instance that answers.\n")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method.upper(), path, operation))
    parts.append("# Bodies\n")
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            wanted = set(schema.get("required", ()))
            rows = [
                (f"`{each}`", _shape(held), "yes" if each in wanted else "", held.get("description", ""))
                for each, held in schema["properties"].items()
            ]
            about = cell(schema.get("description", ""))
            parts.append(f"## {name}\n\n{about}\n\n{table(('field', 'type', 'required', 'meaning'), rows)}")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"## {method} {path}\n", (operation.get("description") or operation.get("summary") or "") + "\n"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        parts.append(f"Body: {_shape(body)}\n")
    given = operation.get("parameters", [])
    if given:
        rows = [
            (f"`{each['name']}`", each["in"], _shape(each.get("schema", {})), each.get("description", ""))
            for each in given
        ]
        parts.append(table(("parameter", "in", "type", "meaning"), rows))
    answers = [(code, held.get("description", "")) for code, held in operation["responses"].items()]
    parts.append(table(("answer", "meaning"), answers))
    return "\n".join(parts)


def _shape(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_shape(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    return f"{schema.get('type', 'any')}{' (' + schema['format'] + ')' if 'format' in schema else ''}"


PAGES = {"cli.md": commands, "settings.md": settings, "events.md": happenings, "sql.md": functions, "http.md": http}


def main() -> int:
    wanted = {FOLDER / name: re.sub(r"\n{3,}", "\n\n", write()).rstrip() + "\n" for name, write in PAGES.items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv and stale:
        names = ", ".join(path.name for path in stale)
        print(f"stale: {names}; run: python scripts/write_reference.py", file=sys.stderr)
        return 1
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
