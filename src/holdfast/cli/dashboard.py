"""`holdfast dashboard`: a link that signs its user in to the dashboard, once."""

import asyncio
import getpass
import socket
import webbrowser
from typing import Annotated

import typer

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_database, read_settings
from holdfast.cli.output import print_json, show
from holdfast.config import Settings
from holdfast.core.api_keys import Role
from holdfast.errors import HoldfastError
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.sessions import LINK_LASTS, Sessions

WHO = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


def dashboard(
    *,
    role: Annotated[
        Role, typer.Option("--role", help="What the link's user may do: viewer, operator or admin.")
    ] = Role.ADMIN,
    open_it: Annotated[bool, typer.Option("--open", help="Also open it in this machine's browser.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print a link that signs its user in to the dashboard: once, within an hour.

    Whoever can read the ledger's database address may make one. The dashboard is served by `up` and `api`.
    """
    if role not in WHO:
        raise typer.BadParameter(f"a {role} has no use for the dashboard; choose {', '.join(WHO)}")
    settings = read_settings(database_url, data_dir)
    database = open_database(settings)
    try:
        link = asyncio.run(_link(settings, database.dsn, role))
    finally:
        database.release()
    if as_json:
        print_json(url=link, role=role, valid_for_s=LINK_LASTS)
    else:
        show(link)
    if open_it:
        webbrowser.open(link)


def sign_in_link(settings: Settings, dsn: str) -> str:
    """The dashboard's address with such a link; the address alone where none can be made."""
    try:
        return asyncio.run(_link(settings, dsn, Role.ADMIN))
    except HoldfastError:
        return f"{_address(settings)}/"


async def _link(settings: Settings, dsn: str, role: Role) -> str:
    ledger = AsyncLedger(dsn, name="holdfast dashboard", deadline=10.0)
    try:
        code = await Sessions(ledger).make_link(role, f"link of {getpass.getuser()}@{socket.gethostname()}")
    finally:
        await ledger.close()
    return f"{_address(settings)}/sign-in?code={code}"


def _address(settings: Settings) -> str:
    from holdfast.cli.up import address_of

    return f"{(settings.url or address_of(settings)).rstrip('/')}/dashboard"
