"""The message for a row of a watched table: a text, or values as JSON has them, with {column} for a value."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: A text, or a table of values.
Template = str | Mapping[str, Any]
_PLACE = re.compile(r"\{([^{}]+)\}")


def columns_of(template: Any) -> Iterator[str]:
    """The columns that a template names.

    >>> list(columns_of({"job": "{id}", "of": ["{tenant} {kind}"]}))
    ['id', 'tenant', 'kind']
    """
    if isinstance(template, str):
        yield from _PLACE.findall(template)
    elif isinstance(template, Mapping):
        for each in template.values():
            yield from columns_of(each)
    elif isinstance(template, list | tuple):
        for each in template:
            yield from columns_of(each)


def render(template: Template, values: Mapping[str, Any]) -> str:
    """The text for these values. In a table a value alone keeps its type; in a text it is written as a text.

    >>> render({"job": "{id}", "name": "job {id}"}, {"id": 7})
    '{"job": 7, "name": "job 7"}'
    >>> render("job:{id}", {"id": 7})
    'job:7'
    """
    return _text(template, values) if isinstance(template, str) else json.dumps(_filled(template, values))


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        alone = _PLACE.fullmatch(template)
        return values.get(alone[1]) if alone else _text(template, values)
    if isinstance(template, Mapping):
        return {name: _filled(each, values) for name, each in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(each, values) for each in template]
    return template


def _text(template: str, values: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda found: _as_text(values.get(found[1])), template)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
