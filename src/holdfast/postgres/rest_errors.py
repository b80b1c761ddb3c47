"""What an answer of PostgREST other than 2xx means, in our words; and what something in between sends instead."""

import json
import re

from holdfast.errors import (
    DatabaseRefused,
    DatabaseUnavailable,
    HoldfastError,
    IdempotencyKeyReused,
    InvalidValue,
    SchemaMismatch,
    WorkerGone,
)

_SEEN = 160


def refusal(where: str, call: str, status: int, text: str, kind: str) -> HoldfastError:
    """What an answer other than 2xx means, in our words."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return no_json(where, status, text, kind)
    code, said = str(found.get("code") or ""), str(found.get("message") or found.get("error") or text[:_SEEN])
    if code == "HF001":
        return WorkerGone(said)
    if code == "HF002":
        return IdempotencyKeyReused(said)
    if code in ("PGRST202", "42883", "42P01", "3F000", "42703"):
        return SchemaMismatch(
            f"{where} has no function for {call} of this version ({said}); run: holdfast migrate up. Where that was"
            " done just now, PostgREST has not yet read it: the SQL NOTIFY pgrst, 'reload schema' tells it"
        )
    if code == "PGRST106" or status == 406:
        return DatabaseRefused(
            f"{where} does not serve the schema public ({said}); add it to the exposed schemas in the API's settings"
        )
    if status in (401, 403) or code in ("42501", "PGRST301", "PGRST302", "PGRST303"):
        return DatabaseRefused(
            f"{where} refuses the key ({said}); set SUPABASE_SERVICE_KEY to a secret key of this project that has not"
            " been revoked (sb_secret_..., or the older service_role key)"
        )
    if code.startswith("22") or code in ("PGRST102", "23514", "23502"):
        return InvalidValue(said)
    if code == "57014":
        return DatabaseUnavailable(f"{where} ended {call}: it took longer than this role may (8 s on Supabase)")
    if status == 404:
        return DatabaseRefused(f"{where} answered 404 ({said}); set SUPABASE_URL to the project's address")
    return DatabaseUnavailable(f"{where} could not do it now: {status} {code} {said}")


def no_json(where: str, status: int, text: str, kind: str) -> HoldfastError:
    title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.DOTALL | re.IGNORECASE)
    page = f"{kind.partition(';')[0] or 'no content type'}" + (f", titled {title[1][:_SEEN]!r}" if title else "")
    if status == 404:
        return DatabaseRefused(f"{where} answered 404 ({page}); set SUPABASE_URL to the project's address")
    return DatabaseUnavailable(f"{where} answered {status} and no JSON ({page}): a proxy in between?")
