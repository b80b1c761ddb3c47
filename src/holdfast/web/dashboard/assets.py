"""Styles, scripts and the icon: read and compressed once, kept by browsers for ever under a name with their hash."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.web.problems import Problem

router = APIRouter()

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FILES = ("style.css", "live.js", "theme.js", "htmx-4.0.1.min.js", "icon.svg")


@dataclass(frozen=True)
class Asset:
    """A file as it is sent; `hashed` is its name with a part of its hash."""

    hashed: str
    content: bytes
    compressed: bytes
    media_type: str


@cache
def assets() -> Mapping[str, Asset]:
    """All of them, by name."""
    return {name: _read(name) for name in _FILES}


@cache
def _by_hash() -> Mapping[str, Asset]:
    return {asset.hashed: asset for asset in assets().values()}


def _read(name: str) -> Asset:
    content = (files("holdfast.web.dashboard") / "static" / name).read_bytes()
    stem, _, kind = name.rpartition(".")
    hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
    return Asset(hashed, content, gzip.compress(content, 9, mtime=0), _TYPES[kind])


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    """One file; anybody may have it."""
    found = _by_hash().get(name)
    if found is None:
        raise Problem(404, "there is no such file; reload the page")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.compressed, 200, {**headers, "Content-Encoding": "gzip"}, found.media_type)
    return Response(found.content, 200, headers, found.media_type)
