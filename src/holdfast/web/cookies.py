"""The dashboard's cookie. It has no `Path`, so that a browser sends it to the dashboard alone, wherever that is."""

from http.cookies import CookieError, SimpleCookie

from starlette.responses import Response
from starlette.types import Scope

SESSION = "holdfast-session"


def session_text(scope: Scope) -> str | None:
    """What opens a session, if the request brings it."""
    return _read(scope, SESSION)


def set_session(response: Response, scope: Scope, text: str, *, lasts: float) -> None:
    """Sign in: not readable by scripts, not sent with what other sites ask for."""
    _write(response, scope, SESSION, text, lasts)


def forget_session(response: Response, scope: Scope) -> None:
    """Sign out."""
    _write(response, scope, SESSION, "", 0)


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
