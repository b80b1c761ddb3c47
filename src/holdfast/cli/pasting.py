"""By hand, with company: the next file on the clipboard, the SQL editor open, and an eye on the ledger."""

import contextlib
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.cli import by_hand, clipboard
from holdfast.cli.output import show
from holdfast.errors import ConfigurationError, DatabaseError, DatabaseUnavailable, MigrationError, SchemaMismatch
from holdfast.postgres.migrate import Migration, MigrationStatus, load, read_status, refuse
from holdfast.services.migrator import Found, Target, Via, find_route

#: Seconds between two looks at the ledger.
EVERY = 2.0


class Pasting:
    """Leads somebody through what is pending, file by file, for at most `wait` seconds each."""

    def __init__(self, target: Target, wait: float) -> None:
        self._target = target
        self._wait = wait
        self._has_opened = False

    def run(self) -> None:
        """Until the ledger shows everything. Raises `MigrationError` when nobody has pasted a file in time."""
        found = self._reader()
        if found is None:
            show(*self._alone())
            return
        try:
            self._lead(lambda: read_status(found.route))
        finally:
            found.route.close()

    def _reader(self) -> Found | None:
        """A way that is good enough to look at the ledger."""
        try:
            return find_route(self._target, Via.AUTO, waits=lambda _: None)
        except DatabaseUnavailable:
            return None

    def _lead(self, look: Callable[[], list[MigrationStatus]]) -> None:
        statuses = look()
        refuse(statuses)
        pending = {status.version for status in statuses if status.state == "pending"}
        for migration in load():
            if migration.version in pending:
                self._offer(migration)
                self._await(look, migration)
                show(f"applied {migration.name}")
        show(f"nothing is left to do: version {load()[-1].version}")

    def _offer(self, migration: Migration) -> None:
        path = Path(f"holdfast-{migration.name}.sql")
        with _writing():
            path.write_text(migration.text, encoding="utf-8")
        is_copied = clipboard.copy(migration.text)
        source = f"the clipboard (also in {path})" if is_copied else str(path)
        show(f"{migration.name}: paste the whole of {source} into {by_hand.address(self._target)} and run it")
        self._open_editor()

    def _open_editor(self) -> None:
        """Once, for somebody who sits here."""
        if self._target.ref and not self._has_opened and sys.stdout.isatty():
            self._has_opened = True
            webbrowser.open(by_hand.address(self._target))

    def _await(self, look: Callable[[], list[MigrationStatus]], migration: Migration) -> None:
        end = time.monotonic() + self._wait
        while time.monotonic() < end:
            states: dict[int, str] = {}
            with contextlib.suppress(DatabaseError):
                states = {status.version: status.state for status in look()}
            if states.get(migration.version) == "applied":
                Path(f"holdfast-{migration.name}.sql").unlink(missing_ok=True)
                return
            if states.get(migration.version) == "edited":
                raise SchemaMismatch(f"{migration.name} was recorded with other contents: paste the file as it is")
            time.sleep(EVERY)
        raise MigrationError(
            f"{migration.name} was not pasted within {self._wait:g} s; what was pasted is kept: run this again to go on"
        )

    def _alone(self) -> list[str]:
        """Nothing here can look at the ledger."""
        with _writing():
            written = by_hand.write(by_hand.FILE)
        is_copied = clipboard.copy(by_hand.everything())
        source = f"the clipboard (also in {written})" if is_copied else str(written)
        self._open_editor()
        return [
            f"paste the whole of {source} into {by_hand.address(self._target)} and run it.",
            "No way to the database is open from here: afterwards ask `holdfast migrate status` where one is.",
        ]


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the SQL to paste cannot be written here ({error}); run this in another folder, or:"
            " holdfast migrate print > FILE"
        ) from error
