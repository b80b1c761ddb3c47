"""Pages from templates, with what every page has: where it is, who looks, what they may do, and how things are."""

import gzip
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from holdfast.core.access import CHANGES, Permission, who_may
from holdfast.core.health import Status
from holdfast.core.redaction import redact, redact_text
from holdfast.web.auth import READ_ONLY, Caller, caller_of
from holdfast.web.dashboard import words
from holdfast.web.dashboard.assets import assets
from holdfast.web.dashboard.notices import Notices
from holdfast.web.services import ApiServices, services_of

#: Characters of a payload that a page shows.
MOST_SHOWN = 65_536

#: Between a name's parts: after the mark that ends one, and before a capital letter.
_SEAM = re.compile(r"(?<=[._:/-])(?=[^._:/-])|(?<=[a-z0-9])(?=[A-Z])")

#: The pages, in the order of the menu: name, path, icon.
MENU = (
    ("Home", "", "home"),
    ("Jobs", "jobs", "jobs"),
    ("Dead letters", "dead-letters", "dead"),
    ("Incidents", "incidents", "bell"),
    ("Queues", "queues", "queue"),
    ("Workers", "workers", "worker"),
    ("Periodic", "periodic", "clock"),
    ("Rate limits", "limits", "gauge"),
    ("Redrives", "redrives", "again"),
    ("Operations", "operations", "bulk"),
    ("Audit", "audit", "audit"),
    ("System", "system", "system"),
)


@cache
def environment() -> Environment:
    """The templates; whatever is put into them is escaped, and what is missing is an error."""
    made = Environment(
        loader=PackageLoader("holdfast.web.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": words.number,
        "span": words.span,
        "clock": words.clock,
        "foldable": foldable,
        "iso": words.iso,
        "moment": words.moment,
        "percent": words.percent,
        "plural": words.plural,
        "tail": lambda value: str(value)[-8:],
    }
    made.globals |= {"Permission": Permission, "menu": MENU}
    return made


class Here:
    """Where a page is. All its links are relative to it."""

    def __init__(self, request: Request) -> None:
        self.path = request.url.path.removeprefix(request.scope.get("root_path", "")).lstrip("/")
        self._up = "../" * self.path.count("/")
        query = f"?{request.url.query}" if request.url.query else ""
        self.itself = f"./{self.path.rpartition('/')[2]}{query}"

    def url(self, path: str = "", /, **query: Any) -> str:
        """A link to another page of the dashboard."""
        asked = urlencode([(name, value) for name, value in query.items() if value not in (None, "")])
        return f"{self._up or './'}{path}{'?' if asked else ''}{asked}"

    def asset(self, name: str) -> str:
        """A link to a file of ours."""
        return f"{self._up or './'}static/{assets()[name].hashed}"


def render(
    request: Request,
    caller: Caller | None,
    template: str,
    *,
    title: str,
    status: int = 200,
    live: bool = True,
    **content: Any,
) -> Response:
    """A page. `live`: it asks for itself again when something changes."""
    services, here, now = services_of(request), Here(request), datetime.now(UTC)
    said = _notices(request).find(caller_of(request.scope).identity, request.query_params.get("notice", ""))
    page = environment().get_template(template)
    text = page.render(
        title=title,
        here=here,
        url=here.url,
        asset=here.asset,
        caller=caller,
        live=live,
        now=now,
        notice=said,
        ago=lambda then: time_tag(then, now),
        why_not=lambda permission: why_not(services, caller, permission),
        pretty=lambda value: pretty(value, services),
        pretty_text=lambda text: pretty_text(text, services),
        veiled=lambda text: redact_text(str(text or ""), services.settings.redact),
        health=services.watch.health() if caller is not None else None,
        open_incidents=len(services.watch.seen.incidents),
        Status=Status,
        read_only=services.settings.read_only,
        **content,
    )
    return _compressed(request, text, status)


def _compressed(request: Request, text: str, status: int) -> Response:
    """Pages hold nothing secret beside what others may have put into them, so they may be compressed."""
    headers = {"Vary": "Accept-Encoding, Cookie, Authorization"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return HTMLResponse(text, status, headers)
    return HTMLResponse(gzip.compress(text.encode(), 5), status, {**headers, "Content-Encoding": "gzip"})


def why_not(services: ApiServices, caller: Caller | None, permission: Permission) -> str:
    """Why somebody may not do that; empty where they may."""
    if caller is None or not caller.may(permission):
        return f"Your role ({caller.role if caller else 'none'}) may not: it takes {who_may(permission)}."
    if permission in CHANGES and services.settings.read_only:
        return READ_ONLY[0].upper() + READ_ONLY[1:] + "."
    return ""


def done(request: Request, path: str, text: str, *, kind: str = "ok", **query: Any) -> Response:
    """After something was done: to the page that shows it, with a word about it."""
    name = _notices(request).keep(caller_of(request.scope).identity, text, kind)
    return RedirectResponse(Here(request).url(path, **query, notice=name), status_code=303)


def _notices(request: Request) -> Notices:
    found = request.app.state.notices
    assert isinstance(found, Notices)
    return found


def time_tag(then: datetime | None, now: datetime) -> Markup:
    """A time as people say it, with the exact one behind it; scripts keep it right."""
    if then is None:
        return Markup('<span class="soft">never</span>')
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        words.iso(then), words.clock(then), words.relative(then, now)
    )


def foldable(name: str) -> Markup:
    """A name that breaks between its parts where it has no room, and in mid-word only where a part alone has none.

    >>> foldable("shop.send_mail"), foldable("PaymentDeclined")
    (Markup('shop.<wbr>send_<wbr>mail'), Markup('Payment<wbr>Declined'))
    """
    return Markup("<wbr>").join(_SEAM.split(name))


def pretty(value: Any, services: ApiServices) -> str:
    """JSON for people, without secrets, cut where it is long."""
    text = json.dumps(redact(value, services.settings.redact), ensure_ascii=False, indent=2, default=_as_json)
    more = len(text) - MOST_SHOWN
    return text if more <= 0 else f"{text[:MOST_SHOWN]}\n… and {more:,} characters more; all of it: holdfast jobs show"


def pretty_text(text: str, services: ApiServices) -> str:
    """A message's body: as JSON where it is, else as it stands."""
    try:
        return pretty(json.loads(text), services)
    except ValueError:
        return redact_text(text[:MOST_SHOWN], services.settings.redact)


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return words.iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return dict(value) if isinstance(value, Mapping) else str(value)


def is_uuid(text: str) -> bool:
    """Whether a text is the id of a job."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
