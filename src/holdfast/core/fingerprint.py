"""One name for one cause: failures that differ only in ids, numbers, times, paths and quoted values share one."""

import hashlib
import re

#: Which rules made a fingerprint; it stands in its name. New rules make new names, so that what is known under the old
#: ones is never taken for another cause.
VERSION = 1

#: What of a message is not its cause. The order matters: a quoted path is one value, and a path may hold numbers.
_VARIABLE = re.compile(
    r"""(?P<quoted>(?<!\w)[bBrRuU]{0,2}(?:'(?:[^'\\]|\\.)*(?:'(?!\w)|$)|"(?:[^"\\]|\\.)*(?:"|$)|`[^`]*(?:`|$)|“[^”]*(?:”|$)))
    |(?P<url>\b[A-Za-z][A-Za-z+]{1,15}://[^\s<>"',;)\]]+)
    |(?P<email>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
    |(?P<path>(?<![\w.])(?:~|\.{1,2})?(?:/[\w.@%+~=-]+)+/?|(?<![\w/.-])[\w.-]+(?:/[\w.-]+){2,}|(?:\b[A-Za-z]:\\|\\\\)[^\s'"<>|:*?,;]+)
    |(?P<time>\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\ )?(?:\d{1,2}[ -])?
        (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*[ -]\d[\d :.-]*(?:\ ?(?:GMT|UTC|Z)\b)?)
    |(?P<id>(?<![\w-])[\w-]*?\d[\w-]*(?:[.,:]\d[\w-]*)*(?:\+\d\d:?\d\d)?)
    |(?P<hex>\b[0-9a-fA-F]{16,}\b)""",
    re.VERBOSE,
)
#: Characters of a message that are looked at, and of its shape that count.
_READ, _COUNTS = 2000, 300


def fingerprint(kind: str, error_type: str, message: str, frames: list[str]) -> str:
    """A short stable name for a failure: the error's type, its message without variable parts, the innermost frame.

    `frames` are "module.function" from the outermost to the innermost one of the handler's own code.

    >>> fingerprint("mail", "KeyError", "'u42'", []) == fingerprint("mail", "KeyError", "'u43'", [])
    True
    """
    parts = (f"{VERSION}", kind, error_type, shape(message), *frames[-1:])
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
    return f"{error_type}:{VERSION}-{digest[:12]}"


def shape(message: str) -> str:
    """The first line of a message, without what differs from one failure to the next.

    >>> shape("no file /var/orders/17.pdf for 'ann' at 2026-03-01T07:30:00Z (job 3f9ac1)")
    'no file ? for ? at ? (job ?)'
    """
    return _VARIABLE.sub("?", message.lstrip().partition("\n")[0][:_READ])[:_COUNTS]
