"""Keys that a kind makes of its jobs' arguments: what must be unique, what is a group, what shares a limit."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.core.payload import is_storable
from holdfast.errors import ConfigurationError, InvalidArguments

#: True: all arguments; one name or several: those; a function of some of them, by their names, to a text or None.
KeyBy = bool | str | Sequence[str] | Callable[..., str | None]

LONGEST = 200


@dataclass(frozen=True)
class Key:
    """How one key of a job comes about. `names` are the arguments that it is made of."""

    option: str
    names: tuple[str, ...]
    function: Callable[..., str | None] | None = None
    is_whole: bool = False

    def of(self, values: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
        """The key for these arguments, as the handler gets them and as the ledger stores them; None: no key.

        One text argument is the key as it stands; anything else is its JSON. What is longer than 200 characters
        becomes its SHA-256.
        """
        if self.function is not None:
            made = self.function(**{name: values[name] for name in self.names})
            if made is not None and not isinstance(made, str):
                raise InvalidArguments(f"{self.option} gave {made!r:.60}; it must give text, or None for no key")
            return None if made is None else fitting(made)
        if self.is_whole:
            return fitting(_json(dict(stored)))
        if len(self.names) > 1:
            return fitting(_json([stored[name] for name in self.names]))
        only = stored[self.names[0]]
        return None if only is None else fitting(only if isinstance(only, str) and only else _json(only))


def make_key(by: KeyBy | None, *, option: str, kind: str, parameters: Sequence[str]) -> Key | None:
    """The key that an option of `Holdfast.job` asks for; `ConfigurationError` where it names what is not there.

    >>> key = make_key(lambda to: to.lower(), option="unique", kind="mail", parameters=["to", "copies"])
    >>> key.of({"to": "Ann", "copies": 1}, {})
    'ann'
    >>> both = make_key(("to", "copies"), option="unique", kind="mail", parameters=["to", "copies"])
    >>> both.of({}, {"to": "ann", "copies": 1})
    '["ann",1]'
    """
    if by is None or by is False:
        return None
    if by is True:
        return Key(option, tuple(parameters), is_whole=True)
    _refuse_other_types(by, option, kind)
    function, names = _read(by)
    unknown = [name for name in names if name not in parameters]
    if unknown or not names:
        has = f"it has {', '.join(parameters)}" if parameters else "it has none"
        which = f"no argument {unknown[0]!r}" if unknown else "nothing to make a key of"
        raise ConfigurationError(f"{kind}: {option} names {which}; {has}")
    return Key(option, names, function)


def _refuse_other_types(by: object, option: str, kind: str) -> None:
    is_several = isinstance(by, Sequence) and all(isinstance(name, str) for name in by)
    if not (is_several or callable(by) or by is True):
        raise ConfigurationError(
            f"{kind}: {option} is {by!r:.50}; it must be True, the name of an argument, several names, or a function"
        )


def _read(by: KeyBy) -> tuple[Callable[..., str | None] | None, tuple[str, ...]]:
    if isinstance(by, str):
        return None, (by,)
    if callable(by):
        return by, tuple(inspect.signature(by).parameters)
    return None, () if isinstance(by, bool) else tuple(by)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def fitting(text: str) -> str:
    """A text that a key's column can hold: itself, or its SHA-256 where it is too long."""
    if 1 <= len(text) <= LONGEST and is_storable(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
