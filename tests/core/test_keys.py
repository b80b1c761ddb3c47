"""Keys made of a job's arguments."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.keys import KeyBy
from holdfast.core.kind import Kind, Policy, make_kind
from holdfast.errors import ConfigurationError, InvalidArguments


class Ctx:
    """Stands for the context type."""


def mail(to: str, copies: int = 1, at: datetime | None = None) -> None: ...


def kind_of(handler: Callable[..., Any] = mail, *, limit: int | None = None, **given: Any) -> Kind:
    return make_kind(
        handler, name="mail", queue="q", priority=0, policy=Policy(limit_max=limit), context_type=Ctx, **given
    )


def unique(by: KeyBy, *args: Any, **kwargs: Any) -> str | None:
    return kind_of(unique=by).check_arguments(args, kwargs).unique_key


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("to", "Ann"),
        ("copies", "2"),
        (("to", "copies"), '["Ann",2]'),
        (["at"], None),
        (True, '{"at":null,"copies":2,"to":"Ann"}'),
        (False, None),
        (lambda to: to.lower(), "ann"),
        (lambda copies, to: f"{to}/{copies}", "Ann/2"),
        (lambda to: None, None),
    ],
)
def test_a_key_is_made_of_the_arguments_that_are_named(by: KeyBy, key: str | None) -> None:
    assert unique(by, "Ann", copies=2) == key


def test_a_function_gets_the_values_of_the_signature_and_a_name_what_is_stored() -> None:
    at = datetime(2031, 1, 2, tzinfo=UTC)
    assert unique(lambda at: str(at.year), "ann", at=at) == "2031"
    assert unique("at", "ann", at=at) == "2031-01-02T00:00:00Z"


@pytest.mark.parametrize("by", ["to", True, lambda to: to])
def test_a_key_that_is_too_long_becomes_its_digest(by: KeyBy) -> None:
    one, two = unique(by, "x" * 1000), unique(by, "x" * 999 + "y")
    assert one is not None
    assert one.startswith("sha256:")
    assert len(one) <= 200
    assert one != two
    assert one == unique(by, "x" * 1000)


def test_an_empty_text_is_a_key_too() -> None:
    assert unique("to", "") == '""'


@pytest.mark.parametrize(
    ("by", "complaint"),
    [
        ("too", "mail: unique names no argument 'too'; it has to, copies, at"),
        (("to", "x"), "no argument 'x'"),
        ((), "nothing to make a key of"),
        (lambda user: user, "no argument 'user'"),
    ],
)
def test_an_argument_that_is_not_there_is_refused_when_the_kind_is_made(by: KeyBy, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        kind_of(unique=by)


def test_a_function_that_gives_no_text_is_refused_with_its_value() -> None:
    with pytest.raises(InvalidArguments, match="unique gave 42; it must give text, or None for no key"):
        unique(lambda to: 42, "ann")  # type: ignore[arg-type,return-value]


def test_groups_are_shared_between_kinds_and_limits_are_the_kind_s_own() -> None:
    arguments = kind_of(group_by="to", limit=2, limit_by="to").check_arguments(("ann",), {})
    assert (arguments.unique_key, arguments.group_key, arguments.limit_key) == (None, "ann", "mail:ann")


def test_a_limit_without_a_key_is_the_whole_kind_s() -> None:
    assert kind_of(limit=2).check_arguments(("ann",), {}).limit_key == "mail"
    assert kind_of(limit=2, limit_by=lambda to: None).check_arguments(("ann",), {}).limit_key is None
    assert kind_of().check_arguments(("ann",), {}).limit_key is None


def test_limit_by_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="limit_by parts a limit, and there is none; add limit=1 or more"):
        kind_of(limit_by="to")


def test_the_arguments_are_stored_as_ever() -> None:
    text = kind_of(unique=True).check_arguments(("ann",), {}).text
    assert json.loads(text) == {"to": "ann", "copies": 1, "at": None}
