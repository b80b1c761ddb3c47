"""The `holdfast` command: its subcommands, and what an error becomes.

The extra `server` may be missing where only the library is used, so nothing of it is imported before it was looked for.
"""

import importlib.util
import os
import sys
from importlib.metadata import version
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
        application()(prog_name="holdfast")
    except HoldfastError as error:
        _die(str(error), exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def exit_code(error: HoldfastError) -> int:
    """What a program reads from the exit code: 2 is for whoever typed the command, 3 can be tried again."""
    if isinstance(error, ConfigurationError | AppLoadError | DatabaseRefused):
        return 2
    return 3 if isinstance(error, DatabaseUnavailable) else 1


def application() -> "typer.Typer":
    """All commands, in the order of `--help`."""
    import typer

    from holdfast.cli.api import api
    from holdfast.cli.demo import demo
    from holdfast.cli.doctor import doctor
    from holdfast.cli.incidents import incidents
    from holdfast.cli.jobs import jobs
    from holdfast.cli.keys import keys
    from holdfast.cli.limits import limits
    from holdfast.cli.local_sqs import local_sqs
    from holdfast.cli.migrate import migrate
    from holdfast.cli.monitor import monitor
    from holdfast.cli.probe import probe
    from holdfast.cli.queues import queues
    from holdfast.cli.schedules import schedules
    from holdfast.cli.up import up
    from holdfast.cli.worker import worker
    from holdfast.cli.workers import workers

    command = typer.Typer(
        help="Keeps hold of every background job. Begin with: holdfast up",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"holdfast {version('holdfast')}")
            raise typer.Exit

    @command.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        pass

    command.command()(up)
    command.command()(worker)
    command.command(short_help="Run the HTTP API alone.")(api)
    command.add_typer(monitor, name="monitor")
    command.add_typer(migrate, name="migrate")
    command.add_typer(jobs, name="jobs")
    command.command(short_help="Examine the running deployment, with the exact fix for what is wrong.")(doctor)
    command.command("verify", short_help="The same as doctor.")(doctor)
    command.add_typer(queues, name="queues")
    command.add_typer(schedules, name="schedules")
    command.add_typer(workers, name="workers")
    command.add_typer(keys, name="keys")
    command.command("local-sqs", short_help="Run a local SQS server, for development.")(local_sqs)
    command.command(short_help="Whether the services on this machine live, for health checks.")(probe)
    command.add_typer(incidents, name="incidents")
    command.add_typer(limits, name="limits")
    command.command(short_help="Run real jobs, kill workers, and count what is lost.")(demo)
    return command


def _die(message: str, code: int) -> NoReturn:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    print(f"{label} {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
