"""One name for one cause: failures that differ only in ids, numbers and quoted values share a fingerprint."""

import hashlib
import re

_VARIABLE = re.compile(
    r"(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<uuid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
    r"|(?P<hex>0x[0-9a-fA-F]+)|(?P<number>\d+)"
)


def fingerprint(kind: str, error_type: str, message: str, frames: list[str]) -> str:
    """A short stable name for a failure: the error's type, its message without variable parts, the innermost frame.

    `frames` are "module.function" from the outermost to the innermost one of the handler's own code.

    >>> fingerprint("mail", "KeyError", "'u42'", []) == fingerprint("mail", "KeyError", "'u43'", [])
    True
    """
    shape = _VARIABLE.sub("?", message.partition("\n")[0])[:300]
    digest = hashlib.sha256("\0".join((kind, error_type, shape, *frames[-1:])).encode("utf-8", "replace")).hexdigest()
    return f"{error_type}:{digest[:12]}"
