"""`holdfast keys`: make, list and revoke the keys of the HTTP API."""

import re
import secrets
import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.core.api_keys import Role, make_key
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.keys import ApiKey, create_api_key, list_api_keys, revoke_api_key

keys = typer.Typer(help="Make, list and revoke the keys of the HTTP API.", no_args_is_help=True)

_SPAN = re.compile(r"(\d{1,6})\s*(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def valid_for(text: str) -> float:
    """How long a key is valid, as it is typed: 30d, 12h."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a duration; write for example 30d, 12h or 15min")
    return float(int(found[1]) * _SECONDS[found[2]])


Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Who or what it is for.")]
Expires = Annotated[
    float | None,
    typer.Option("--expires", parser=valid_for, metavar="DURATION", help="When it ends: 30d, 12h. By default never."),
]


@keys.command()
def create(
    name: Name,
    *,
    role: Annotated[
        Role,
        typer.Option(
            "--role",
            help="viewer looks; operator also acts (retry, cancel, pause, redrive) and sees what jobs carry; submitter"
            " only adds jobs and asks after one; admin does all.",
        ),
    ] = Role.ADMIN,
    expires: Expires = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed to standard output, this once: the ledger keeps only a hash of it.

    From the first key on, within 10 seconds everywhere, everybody needs one.
    """
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ConfigurationError(f"name is {name[:120]!r}; it must have 1 to 100 printable characters")
    made = make_key(secrets.token_bytes(5), secrets.token_bytes(32))
    with open_ledger(database_url, data_dir) as ledger:
        kept = ledger.call(create_api_key(made.id, name, role, made.secret_hash, expires))
    if not kept:
        raise ConfigurationError(
            "there are 1,000 valid keys already; revoke those that nobody uses: holdfast keys list"
        )
    if as_json:
        print_json(key=kept[0], token=made.token)
        return
    print(f"This key is shown once. Use it as: Authorization: Bearer {made.token[:12]}...", file=sys.stderr)
    print(made.token)


@keys.command("list")
def list_keys(
    *,
    all: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The keys there are, and when each was used last (to the minute)."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_api_keys(all=all))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(keys=found)
        return
    if not found:
        show("there is no key; make one with: holdfast keys create NAME")
        return
    page = table("ID", "NAME", "ROLE", "MADE", "USED", "STATUS")
    for key in found:
        used = relative(key.last_used_at, now) if key.last_used_at else "never"
        page.add_row(key.id, clean(key.name), key.role, relative(key.created_at, now), used, describe(key, now))
    show(page)


@keys.command(epilog="Exit code 1 when there is no such key.")
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The key's id: holdfast keys list.")],
    *,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key open nothing any more; within 10 seconds everywhere."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(revoke_api_key(id))
    if as_json:
        print_json(key=found[0] if found else None)
    elif found:
        show(f"{found[0].id} ({clean(found[0].name)}) opens nothing any more, within 10 seconds everywhere")
    else:
        show(Text(f"there is no key with the id {clean(id)[:40]}; see: holdfast keys list", "red"))
    raise typer.Exit(0 if found else 1)


def describe(key: ApiKey, now: datetime) -> Text:
    """Whether a key opens anything, in words."""
    if key.revoked_at is not None:
        return Text(f"revoked {relative(key.revoked_at, now)}", "dim")
    if key.expires_at is None:
        return Text("valid", "green")
    ends = relative(key.expires_at, now)
    return Text(f"expired {ends}", "dim") if key.expires_at <= now else Text(f"valid, ends {ends}", "green")
