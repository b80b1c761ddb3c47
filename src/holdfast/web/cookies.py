"""The dashboard's cookies. They have no `Path`, so that a browser sends them to the dashboard alone, wherever it is."""

import json
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, unquote

from starlette.responses import Response
from starlette.types import Scope

SESSION, NOTICE = "holdfast-session", "holdfast-notice"


def session_text(scope: Scope) -> str | None:
    """What opens a session, if the request brings it."""
    return _read(scope, SESSION)


def set_session(response: Response, scope: Scope, text: str, *, lasts: float) -> None:
    """Sign in: not readable by scripts, not sent with what other sites ask for."""
    _write(response, scope, SESSION, text, lasts)


def forget_session(response: Response, scope: Scope) -> None:
    """Sign out."""
    _write(response, scope, SESSION, "", 0)


def notice(scope: Scope) -> dict[str, Any] | None:
    """What the page before wanted to say."""
    text = _read(scope, NOTICE)
    try:
        found = json.loads(unquote(text)) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def set_notice(response: Response, scope: Scope, text: str, *, kind: str = "ok") -> None:
    """Say something on the page that follows."""
    _write(response, scope, NOTICE, quote(json.dumps({"text": text[:600], "kind": kind})), 60)


def forget_notice(response: Response, scope: Scope) -> None:
    """It was said."""
    _write(response, scope, NOTICE, "", 0)


def _name(scope: Scope, name: str) -> str:
    """Browsers keep the cookies of one host together whatever the port: two on one machine must not share them."""
    host = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "")
    port = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return f"{name}-{port}" if port.isdigit() else name


def _read(scope: Scope, name: str) -> str | None:
    sent = [value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie"]
    if not sent:
        return None
    try:
        found = SimpleCookie("; ".join(sent)[:16_384]).get(_name(scope, name))
    except CookieError:
        return None
    return found.value if found is not None and found.value else None


def _write(response: Response, scope: Scope, name: str, value: str, lasts: float) -> None:
    secure = "; Secure" if scope.get("scheme") == "https" or _is_forwarded_https(scope) else ""
    line = f"{_name(scope, name)}={value}; Max-Age={int(lasts)}; HttpOnly; SameSite=Lax{secure}"
    response.headers.append("set-cookie", line)


def _is_forwarded_https(scope: Scope) -> bool:
    return any(key == b"x-forwarded-proto" and value == b"https" for key, value in scope["headers"])
