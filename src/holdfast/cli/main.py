"""The `holdfast` command: its subcommands, and what an error becomes.

The extra `server` may be missing where only the library is used, so nothing of it is imported before it was looked for.
"""

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from holdfast.errors import AppLoadError, ConfigurationError, DatabaseRefused, DatabaseUnavailable, HoldfastError

if TYPE_CHECKING:
    import typer

INSTALL = "pip install 'holdfast[server]'"
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, or the answer is no; 2 wrong usage, setting or application; "
    "3 the database does not answer; 130 interrupted."
)


def main() -> None:
    """The entry point: run the command line, and print errors of ours as one line."""
    if any(importlib.util.find_spec(name) is None for name in ("typer", "rich")):
        _die(f"the holdfast command needs the extra `server`: {INSTALL}", 2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.platform == "win32":
        # The driver cannot wait on the other kind of event loop that Windows has.
        import asyncio

        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    try:
        application(sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="holdfast")
    except HoldfastError as error:
        _die(str(error), exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def exit_code(error: HoldfastError) -> int:
    """What a program reads from the exit code: 2 is for whoever typed the command, 3 can be tried again."""
    if isinstance(error, ConfigurationError | AppLoadError | DatabaseRefused):
        return 2
    return 3 if isinstance(error, DatabaseUnavailable) else 1


#: Each command in the order of `--help`: the module of `holdfast.cli` that holds it, its name there, and, for one that
#: is no group, its line in `--help` where that is not the first of its docstring.
COMMANDS: dict[str, tuple[str, str, str | None]] = {
    "up": ("up", "up", None),
    "worker": ("worker", "worker", None),
    "api": ("api", "api", "Run the HTTP API and the dashboard alone."),
    "dashboard": ("dashboard", "dashboard", "Print a link that signs you in to the dashboard."),
    "monitor": ("monitor", "monitor", None),
    "migrate": ("migrate", "migrate", None),
    "jobs": ("jobs", "jobs", None),
    "doctor": ("doctor", "doctor", "Examine the running deployment, with the exact fix for what is wrong."),
    "verify": ("doctor", "doctor", "The same as doctor."),
    "queues": ("queues", "queues", None),
    "schedules": ("schedules", "schedules", None),
    "workers": ("workers", "workers", None),
    "keys": ("keys", "keys", None),
    "local-sqs": ("local_sqs", "local_sqs", "Run a local SQS server, for development."),
    "probe": ("probe", "probe", "Whether the services on this machine live, for health checks."),
    "dlq": ("dlq", "dlq", None),
    "alerts": ("alerts", "alerts", None),
    "incidents": ("incidents", "incidents", None),
    "watch": ("watch", "watch", None),
    "limits": ("limits", "limits", None),
    "demo": ("demo", "demo", "Run real jobs, kill workers, and count what is lost."),
}


def application(only: str | None = None) -> "typer.Typer":
    """All commands, in the order of `--help`; or that one alone, which spares the imports of the others."""
    import typer

    command = typer.Typer(
        help="Keeps hold of every background job. Begin with: holdfast up",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @command.callback()
    def root(
        context: typer.Context,
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),
        as_json: bool = typer.Option(False, "--json", help="With --version: what is installed, for programs."),
    ) -> None:
        if version:
            _show_version(as_json)
            raise typer.Exit
        if context.invoked_subcommand is None:
            raise typer.BadParameter("it goes with --version, or after a command", param_hint="--json")

    for name in [only] if only in COMMANDS else COMMANDS:
        module, attribute, help = COMMANDS[name]
        held = getattr(importlib.import_module(f"holdfast.cli.{module}"), attribute)
        if isinstance(held, typer.Typer):
            command.add_typer(held, name=name)
        else:
            command.command(name, short_help=help)(held)
    return command


def _show_version(as_json: bool) -> None:
    from holdfast.cli.output import print_json
    from holdfast.cli.version import described, line

    if as_json:
        print_json(**described())
    else:
        print(line())


def _die(message: str, code: int) -> NoReturn:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    print(f"{label} {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
