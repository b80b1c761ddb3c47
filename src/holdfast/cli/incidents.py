"""`holdfast incidents`: what is wrong now, by cause, for how long, and who has taken it on."""

import getpass
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.filters import seconds
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, pairs, print_json, relative, show, table
from holdfast.core import telling
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.redrives import (
    IncidentLine,
    incident_ack,
    incident_history,
    incident_silence,
    list_incidents,
)

incidents = typer.Typer(help="What is wrong now: look, take it on, silence it.", no_args_is_help=True)

Wanted = Annotated[str, typer.Argument(metavar="ID", help="The incident's id, or its beginning or end.")]
Note = Annotated[str | None, typer.Option(help="What to tell others about it; kept with it.")]
_STATES = ("open", "reopened", "acknowledged", "silenced", "resolved")


@incidents.command("list")
def list_all(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(help=f"Only those in this state, may be given again: {', '.join(_STATES)}."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind.")] = None,
    resolved: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The incidents that are open, the newest first; 1,000 at most."""
    unknown = set(state or ()) - set(_STATES)
    if unknown:
        raise ConfigurationError(f"{min(unknown)!r} is no state of an incident; those are {', '.join(_STATES)}")
    states = _STATES if resolved and not state else state or None
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_incidents(states, kind))
    if as_json:
        print_json(incidents=found)
        return
    if not found:
        show("no incident is open" if states is None else "there is no such incident")
        return
    page = table("ID", "STATE", "FOR", "KIND", "ARRIVED", "WHAT")
    page.columns[-1].no_wrap = False
    for row in found:
        cells = (str(row.id)[-8:], row.state, telling.span(row.open_for), row.kind, f"{row.arrivals:,}")
        page.add_row(*cells, Text(clean(row.title)))
    show(page)


@incidents.command("show")
def show_one(
    wanted: Wanted, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """One incident: what it is, since when, who was told, and who has taken it on."""
    with open_ledger(database_url, data_dir) as ledger:
        row = _find(ledger, wanted)
        told = ledger.call(incident_history(row.id))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(incident=row, notifications=told)
        return
    lines = [
        ("id", str(row.id)),
        ("state", _state(row)),
        ("kind", row.kind),
        ("about", clean(row.key) or "-"),
        ("opened", f"{row.opened_at:%Y-%m-%d %H:%M:%S UTC} ({relative(row.opened_at, now)})"),
        ("lasts" if row.resolved_at is None else "lasted", telling.span(row.open_for)),
        ("arrived", f"{row.arrivals:,}"),
    ]
    if row.reopened:
        lines.append(("came back", f"{row.reopened} times"))
    if row.note:
        lines.append(("note", clean(row.note)))
    shown = told[-1].content if told else {}
    lines += [(str(name), clean(str(value))) for name, value in shown.get("lines") or [] if name != "open for"]
    show(Text(clean(row.title), "bold"), pairs([(name, Text(value)) for name, value in lines]))
    commands = [each.content["command"] for each in told if each.content.get("command")]
    if commands and row.state != "resolved":
        show(Text(f"\n{clean(commands[-1])}"))
    page = table("TOLD", "WHY", "CHANNEL", "TRIES", "")
    for each in told:
        ended = "delivered" if each.delivered_at else f"waits: {each.error or 'not tried yet'}"
        page.add_row(relative(each.created_at, now), each.reason, each.channel, str(each.attempts), Text(clean(ended)))
    show("", page if told else "nobody was told of it yet")


@incidents.command()
def ack(
    *,
    wanted: Wanted,
    note: Note = None,
    by: Annotated[str | None, typer.Option(help="Who takes it on; by default whoever you are here.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Nobody has taken it on after all.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take an incident on: it is told again only when it becomes more urgent, and at its end."""
    with open_ledger(database_url, data_dir) as ledger:
        row = _find(ledger, wanted)
        verdict = ledger.one(incident_ack(row.id, by or whoever(), note, ack=not undo))
    _answer(row, verdict, as_json=as_json)


@incidents.command()
def silence(
    *,
    wanted: Wanted,
    span: Annotated[
        float | None, typer.Option("--for", parser=seconds, metavar="SPAN", help="For how long: 30min, 2h, 1d.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="End its silence.")] = False,
    note: Note = None,
    by: Annotated[str | None, typer.Option(help="Who silences it; by default whoever you are here.")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell nothing of an incident for a while; what is still there then is told again."""
    if (span is None) is not undo:
        raise ConfigurationError("say for how long, --for 2h, or end its silence with --undo")
    with open_ledger(database_url, data_dir) as ledger:
        row = _find(ledger, wanted)
        verdict = ledger.one(incident_silence(row.id, span or 0.0, by or whoever(), note))
    _answer(row, verdict, as_json=as_json)


def whoever() -> str:
    """Who types this, as this machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _find(ledger: SyncLedger, wanted: str) -> IncidentLine:
    part = wanted.lower()
    listed = ledger.call(list_incidents(_STATES, part, 3))  # those of a kind that is called so too, which is not asked
    found = [each for each in listed if str(each.id).startswith(part) or str(each.id).endswith(part)]
    if not found:
        raise ConfigurationError(
            f"no incident has an id that begins or ends with {wanted!r}; see: holdfast incidents list --all"
        )
    if len(found) > 1:
        raise ConfigurationError(f"several incidents have ids that begin or end so, {wanted!r}; give more of it")
    return found[0]


def _state(row: IncidentLine) -> str:
    if row.state == "acknowledged":
        return f"acknowledged by {clean(row.acknowledged_by or '')}"
    if row.state == "silenced" and row.silenced_until is not None:
        return f"silenced by {clean(row.silenced_by or '')} until {row.silenced_until:%Y-%m-%d %H:%M UTC}"
    return row.state


def _answer(row: IncidentLine, verdict: str, *, as_json: bool) -> None:
    if as_json:
        print_json(id=row.id, verdict=verdict)
    elif verdict == "resolved":
        show(Text(f"{str(row.id)[-8:]} is over already: {clean(row.title)}", "yellow"))
    else:
        show(Text(f"{str(row.id)[-8:]} is {verdict}: {clean(row.title)}", "green"))
    if verdict == "resolved":
        raise typer.Exit(1)
