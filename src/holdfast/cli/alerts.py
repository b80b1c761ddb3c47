"""`holdfast alerts`: whether people are told, shown by telling them."""

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.options import AsJson, read_settings
from holdfast.cli.output import clean, print_json, show, table
from holdfast.config import Settings
from holdfast.core import telling
from holdfast.errors import ConfigurationError
from holdfast.notify.channel import Again, Broken, Delivered, Outcome
from holdfast.notify.several import make_channels

alerts = typer.Typer(help="Whether people are told of incidents.", no_args_is_help=True)


@alerts.callback()
def _group() -> None:
    """Keeps `test` a command of its own, although it is the only one."""


@alerts.command("test")
def send_samples(
    kind: Annotated[
        str | None, typer.Option(help=f"Only of this kind: {', '.join(telling.SAMPLES)}, resolved.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send one alert of each kind, marked as a test, over each channel that is set; nothing is written down."""
    samples = telling.samples()
    if kind is not None and kind not in samples:
        raise ConfigurationError(f"--kind is {kind!r}; there are {', '.join(samples)}")
    wanted = samples if kind is None else {kind: samples[kind]}
    sent = asyncio.run(_send(read_settings(None, None), wanted))
    failed = [each for each in sent if not isinstance(each[2], Delivered)]
    if as_json:
        lines = [{"channel": name, "kind": what, "error": _why(outcome)} for name, what, outcome in sent]
        print_json(sent=lines, delivered=len(sent) - len(failed))
    else:
        page = table("CHANNEL", "KIND", "")
        for name, what, outcome in sent:
            page.add_row(name, what, Text(clean(_why(outcome) or "delivered")))
        show(page)
    raise typer.Exit(1 if failed else 0)


async def _send(settings: Settings, wanted: dict[str, tuple[str, telling.Told]]) -> list[tuple[str, str, Outcome]]:
    channels, sent = make_channels(settings.alert_addresses()), list[tuple[str, str, Outcome]]()
    try:
        for name, channel in channels.items():
            for number, (kind, (reason, content)) in enumerate(wanted.items()):
                if number:
                    await asyncio.sleep(channel.pace)
                # What resolves must be about what was opened.
                outcome = await channel.send(reason, {**content, "incident": "holdfast-test"})
                sent.append((name, kind, outcome))
                if isinstance(outcome, Broken):
                    break
    finally:
        for channel in channels.values():
            await channel.close()
    return sent


def _why(outcome: Outcome) -> str | None:
    return outcome.why if isinstance(outcome, Again | Broken) else None
