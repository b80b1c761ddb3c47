"""`holdfast probe`: whether a service lives, for health checks of containers and process managers."""

import http.client
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.text import Text

from holdfast.cli.options import AsJson
from holdfast.cli.output import clean, print_json, show
from holdfast.config import load_settings
from holdfast.errors import ConfigurationError
from holdfast.services.probe import Told, ask_all, run_dir

Url = Annotated[
    str | None, typer.Argument(metavar="URL", show_default=False, help="Ask a web server instead: a 2xx is good.")
]


def probe(
    url: Url = None,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Only services of this name: worker, up.")] = None,
    timeout: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds until an answer counts as none.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Whether the services of this user on this machine live: their processes run and make progress.

    The database is not asked: its outage is no reason to restart anything. Exit codes: 0 all live; 1 one is stuck; 3
    nothing runs here.
    """
    if url is not None:
        raise typer.Exit(_ask_url(url, timeout, as_json))
    folder = run_dir(load_settings().run_dir)
    answers = list(ask_all(folder, timeout, name))
    if as_json:
        print_json(services=[{"name": label, "answer": told} for label, told in answers])
    else:
        for label, told in answers:
            show(_line(label, told))
    if not answers:
        wanted = f"no service called {name}" if name else "no service of yours"
        show(Text(f"{wanted} runs on this machine (looked in {folder})", "red"))
        raise typer.Exit(3)
    raise typer.Exit(0 if all(told is not None and not told.problems for _, told in answers) else 1)


def _line(label: str, told: Told | None) -> Text:
    if told is None:
        return Text(f"fail  {label}: it does not answer", "red")
    if told.problems:
        return Text(f"fail  {label}: {'; '.join(told.problems)}", "red")
    names = ", ".join(f"{process.name} (pid {process.pid})" for process in told.processes) or "no process yet"
    return Text(f"pass  {label}: {clean(names)}", "green")


def _ask_url(url: str, timeout: float, as_json: bool) -> int:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(f"{url[:100]!r} is not an address to probe; it looks like http://127.0.0.1:8484/livez")
    link = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    try:
        link.request("GET", parts.path or "/")
        status = link.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        status, why = None, f"no answer: {type(error).__name__}"
    else:
        why = f"status {status}"
    finally:
        link.close()
    is_good = status is not None and 200 <= status < 300
    if as_json:
        print_json(url=url, status=status, passed=is_good)
    else:
        show(Text(f"{'pass' if is_good else 'fail'}  {url}: {why}", "green" if is_good else "red"))
    return 0 if is_good else 3 if status is None else 1
