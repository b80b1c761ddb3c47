"""A handler's signature becomes a kind; arguments become JSON and come back; errors can be read."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast.core.kind import Kind, Policy, make_kind
from holdfast.core.retry import RetryPolicy
from holdfast.errors import ConfigurationError, InvalidArguments, InvalidResult


class Ctx:
    """Stands for the context type."""


class Address(BaseModel):
    street: str
    zip: int


@dataclass
class Point:
    x: int
    y: int


class Opaque:
    """Nothing that could become JSON."""


def kind_of(handler: Callable[..., Any], **given: Any) -> Kind:
    options: dict[str, Any] = {"name": "it", "queue": "default", "priority": 0, "policy": Policy(), **given}
    return make_kind(handler, context_type=Ctx, **options)


def through(kind: Kind, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Arguments as the handler gets them, after their way through the ledger."""
    return kind.decode_arguments(json.loads(kind.encode_arguments(args, kwargs)))


def send(to: str, copies: int = 1, *, urgent: bool = False) -> None: ...


def test_positional_keyword_and_default_arguments_are_stored_by_name() -> None:
    kind = kind_of(send)
    assert json.loads(kind.encode_arguments(("ann",), {})) == {"to": "ann", "copies": 1, "urgent": False}
    assert through(kind, "ann", 2, urgent=True) == {"to": "ann", "copies": 2, "urgent": True}
    assert through(kind, copies=3, to="bob") == {"to": "bob", "copies": 3, "urgent": False}


def test_values_come_back_with_the_types_of_the_signature() -> None:
    def rich(at: datetime, id: UUID, price: Decimal, address: Address, point: Point, tags: set[str], raw: bytes): ...

    given = {
        "at": datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        "id": UUID(int=7),
        "price": Decimal("1.10"),
        "address": Address(street="Elm", zip=12),
        "point": Point(1, 2),
        "tags": {"a", "b"},
        "raw": b"abc",
    }
    assert through(kind_of(rich), **given) == given


def test_parameters_without_a_type_take_any_json() -> None:
    def loose(a, b=None): ...

    assert through(kind_of(loose), {"x": [1, None]}) == {"a": {"x": [1, None]}, "b": None}


@given(st.lists(st.integers() | st.none()), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_arguments_that_fit_come_back_equal(numbers: list[int | None], text: str) -> None:
    def handler(numbers: list[int | None], text: str): ...

    assert through(kind_of(handler), numbers, text=text) == {"numbers": numbers, "text": text}


def test_a_mutable_default_is_not_shared_between_jobs() -> None:
    def handler(seen: list[int] = []): ...  # noqa: B006

    kind = kind_of(handler)
    kind.decode_arguments({})["seen"].append(1)
    assert kind.decode_arguments({}) == {"seen": []}


# Context


def test_a_first_parameter_of_the_context_s_type_is_no_argument() -> None:
    def with_context(ctx: Ctx, to: str): ...

    kind = kind_of(with_context)
    assert kind.wants_context
    assert through(kind, "ann") == {"to": "ann"}
    with pytest.raises(InvalidArguments, match="unexpected keyword argument 'ctx'"):
        kind.encode_arguments((), {"ctx": 1, "to": "ann"})


def test_a_context_s_annotation_may_be_written_as_text() -> None:
    def with_context(ctx: "Ctx", to: "str"): ...

    assert kind_of(with_context).wants_context


def test_a_parameter_called_ctx_of_another_type_is_an_argument() -> None:
    def handler(ctx: str): ...

    kind = kind_of(handler)
    assert not kind.wants_context
    assert through(kind, "x") == {"ctx": "x"}


def test_async_and_plain_handlers_are_told_apart() -> None:
    async def on_the_loop(): ...

    assert kind_of(on_the_loop).is_async
    assert not kind_of(send).is_async


# Errors that can be read


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"it\(to: str, copies: int = 1, \*, urgent: bool = False\): missing a required argument: 'to'"),
        (("a", 1, True), {}, "too many positional arguments"),
        (("a",), {"cc": 1}, "got an unexpected keyword argument 'cc'"),
        ((3,), {}, r"it: to: Input should be a valid string, got 3$"),
        (("a", "many"), {}, r"it: copies: Input should be a valid integer, .*, got 'many'$"),
        ((None, None), {}, r"it: to: .* \(and 1 more\)$"),
        (("a\x00b",), {}, "arguments of it holds the character NUL"),
        (("\ud800",), {}, "arguments of it holds a lone surrogate"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_name_place_and_value(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArguments, match=message):
        kind_of(send).encode_arguments(args, kwargs)


def test_a_place_inside_an_argument_is_named() -> None:
    def handler(addresses: list[Address]): ...

    with pytest.raises(InvalidArguments, match=r"it: addresses\.1\.zip: Input should be a valid integer"):
        kind_of(handler).encode_arguments(([{"street": "a", "zip": 1}, {"street": "b", "zip": "x"}],), {})


def test_a_long_value_is_shown_in_part() -> None:
    def handler(number: int): ...

    with pytest.raises(InvalidArguments) as caught:
        kind_of(handler).encode_arguments(("x" * 10_000,), {})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1: {2: object()}}, b"\xff"])
def test_arguments_that_are_not_json_are_refused(value: Any) -> None:
    def handler(value): ...

    with pytest.raises(InvalidArguments):
        kind_of(handler).encode_arguments((value,), {})


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_number_that_json_does_not_know_is_refused_and_never_changed_into_null(value: float) -> None:
    def handler(number: float, numbers: list[float]): ...

    with pytest.raises(InvalidArguments, match="arguments of it is not JSON"):
        kind_of(handler).encode_arguments((value, []), {})
    with pytest.raises(InvalidArguments, match="arguments of it is not JSON"):
        kind_of(handler).encode_arguments((1.0, [value]), {})


@pytest.mark.parametrize("stored", [{}, {"to": 3}, {"to": "a", "from": "b"}, {"to": None}])
def test_a_row_s_arguments_that_no_longer_fit_the_handler_are_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments, match=r"^it: "):
        kind_of(send).decode_arguments(stored)


def test_a_parameter_that_was_added_with_a_default_does_not_break_older_jobs() -> None:
    assert kind_of(send).decode_arguments({"to": "ann"}) == {"to": "ann", "copies": 1, "urgent": False}


# Signatures that are refused


def with_args(*args: int): ...
def with_kwargs(**kwargs: int): ...
def positional_only(a: int, /): ...
def opaque(a: Opaque): ...
def context_last(a: int, ctx: Ctx): ...
def generator(a: int):
    yield a


async def async_generator(a: int):
    yield a


@pytest.mark.parametrize(
    ("handler", "culprit"),
    [
        (with_args, r"\*args"),
        (with_kwargs, r"\*\*kwargs"),
        (positional_only, "a: int"),
        (opaque, "Opaque"),
        (context_last, "ctx is the run's context, which is the first parameter"),
    ],
)
def test_a_signature_that_cannot_be_stored_by_name_is_refused_at_once(
    handler: Callable[..., Any], culprit: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^it: .*{culprit}"):
        kind_of(handler)


@pytest.mark.parametrize("handler", [generator, async_generator])
def test_a_generator_is_refused_since_calling_it_runs_nothing(handler: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^it is a generator .* return what it yields"):
        kind_of(handler)


@pytest.mark.parametrize("by", [3, ("a", 4), {"a"}])
def test_a_key_of_another_type_is_refused_with_its_value(by: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"it: unique is .*; it must be True, the name of an argument"):
        kind_of(send, unique=by)


def test_an_annotation_that_cannot_be_resolved_is_refused_with_its_name() -> None:
    def handler(a: "Nowhere"): ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"^it: .*Nowhere"):
        kind_of(handler)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["copy", "json", "schema", "dict", "validate", "model_dump", "_x", "self"])
def test_a_parameter_may_have_any_other_name(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def handler(*, {name}: str): ...", scope)
    assert through(kind_of(scope["handler"]), **{name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "the name of a kind must have 1 to 200 characters"),
        ({"name": "x" * 201}, "this has 201"),
        ({"name": "a\x00b"}, "no NUL"),
        ({"name": "\ud800"}, "no lone surrogates"),
        ({"queue": ""}, "'it': the name of a queue"),
        ({"queue": "x" * 201}, "'it': the name of a queue"),
        ({"queue": "a\x00b"}, "no NUL"),
        ({"name": 7}, "the name of a kind is 7; it must be text"),
        ({"queue": None}, "'it': the name of a queue is None; it must be text"),
        ({"priority": 1001}, "it: priority is 1001; it must be a whole number from -1000 to 1,000"),
        ({"priority": 1.5}, r"it: priority is 1\.5"),
        ({"priority": -1001}, "it: priority is -1001"),
    ],
)
def test_names_and_priorities_that_the_ledger_cannot_hold_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kind_of(send, **given)


# Policy


def test_a_policy_stores_only_what_differs_from_the_ledger_s_defaults() -> None:
    assert Policy().as_json() == {"timeout": 3600.0}
    assert Policy(timeout=None).as_json() == {"timeout": None}
    assert Policy(
        max_attempts=1, max_crashes=2, retry=RetryPolicy(base=9), rescue="dead", silent_after=7, limit_max=3
    ).as_json() == {
        "timeout": 3600.0,
        "max_attempts": 1,
        "max_crashes": 2,
        "retry": {"base": 9, "factor": 2.0, "cap": 600.0, "jitter": 0.2},
        "rescue": "dead",
        "silent_after": 7,
        "limit_max": 3,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0}, {"max_crashes": 0}, {"rescue": "retry"}, {"timeout": 0}, {"timeout": -1},
        {"timeout": 1e9}, {"timeout": math.nan}, {"silent_after": 0}, {"limit_max": 0}, {"timeout": "60"},
        {"max_attempts": "3"}, {"max_attempts": 2.5}, {"max_attempts": True}, {"max_attempts": 10**9},
        {"max_crashes": None}, {"limit_max": "2"}, {"limit_max": 10**9}, {"retry": 3}, {"silent_after": True},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_is_refused_with_name_and_value(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigurationError, match=f"{'limit' if name == 'limit_max' else name} is {value!r}"):
        Policy(**wrong)


# Results


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        ({"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5, "x", None, True]}),
        (Address(street="Elm", zip=1), {"street": "Elm", "zip": 1}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        ((1, 2), [1, 2]),
        ({UUID(int=1): Decimal("1.5")}, {"00000000-0000-0000-0000-000000000001": "1.5"}),
    ],
)
def test_a_result_is_stored_as_json(value: Any, stored: Any) -> None:
    assert json.loads(kind_of(send).encode_result(value)) == stored


@pytest.mark.parametrize("value", [Opaque(), math.nan, "a\x00", "\ud800", b"\xff", "x" * 1_100_000])
def test_a_result_that_cannot_be_stored_is_refused(value: Any) -> None:
    with pytest.raises(InvalidResult):
        kind_of(send).encode_result(value)
