"""A kind of job: the handler, its name, the policy of its jobs, and how its arguments become JSON and back."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model

from holdfast.core.declaration import refuse_generator, seconds, storable_name, whole
from holdfast.core.keys import Key, KeyBy, fitting, make_key
from holdfast.core.payload import PayloadError, encode, is_plain
from holdfast.core.retry import DEFAULT_RETRY, RetryPolicy
from holdfast.errors import ConfigurationError, InvalidArguments, InvalidResult

#: The name of the kind that every worker knows, and no program may take.
CANARY = "holdfast.canary"


@dataclass(frozen=True)
class Policy:
    """What the ledger must know to decide about a job alone. Times in seconds; `timeout` None means no limit."""

    max_attempts: int = 5
    max_crashes: int = 3
    retry: RetryPolicy = DEFAULT_RETRY
    rescue: str = "requeue"
    timeout: float | None = 3600.0
    silent_after: float | None = None
    limit_max: int | None = None

    def __post_init__(self) -> None:
        whole("max_attempts", self.max_attempts, 1)
        whole("max_crashes", self.max_crashes, 1)
        if self.limit_max is not None:
            whole("limit", self.limit_max, 1, note=", or None")
        if self.timeout is not None:
            seconds("timeout", self.timeout)
        if self.silent_after is not None:
            seconds("silent_after", self.silent_after)
        if self.rescue not in ("requeue", "dead"):
            raise ConfigurationError(f"rescue is {self.rescue!r}; it must be 'requeue' or 'dead'")
        _refuse_other_retry(self.retry)

    def as_json(self) -> dict[str, Any]:
        """The policy as the function enqueue_many reads it."""
        stored: dict[str, Any] = {"timeout": self.timeout}
        if self.max_attempts != 5:
            stored["max_attempts"] = self.max_attempts
        if self.max_crashes != 3:
            stored["max_crashes"] = self.max_crashes
        if self.retry != DEFAULT_RETRY:
            stored["retry"] = self.retry.as_json()
        if self.rescue != "requeue":
            stored["rescue"] = self.rescue
        if self.silent_after is not None:
            stored["silent_after"] = self.silent_after
        if self.limit_max is not None:
            stored["limit_max"] = self.limit_max
        return stored

    @cached_property
    def text(self) -> str:
        """The same as JSON text, made once."""
        return encode(self.as_json(), what="policy")


class Arguments(NamedTuple):
    """A call's arguments, checked: their JSON text, and the keys that the kind makes of them."""

    text: str
    unique_key: str | None = None
    group_key: str | None = None
    limit_key: str | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of job. Made by `Holdfast.job`; `name` is what the ledger stores."""

    name: str
    handler: Callable[..., Any]
    queue: str
    priority: int
    policy: Policy
    is_async: bool
    isolation: str
    wants_context: bool
    signature: inspect.Signature = field(repr=False)
    arguments: type[BaseModel] = field(repr=False)
    result: TypeAdapter[Any] = field(repr=False)
    returns: Any = field(default=Any, repr=False)
    unique: Key | None = None
    group_by: Key | None = None
    limit_by: Key | None = None

    def encode_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """JSON text of a call's arguments; `InvalidArguments` when they do not fit the handler or are not JSON."""
        return self.check_arguments(args, kwargs).text

    def check_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """A call's arguments as JSON, with their keys; `InvalidArguments` when they do not fit or are not JSON."""
        if not args and self._is_plain and (text := self._plain_text(kwargs)) is not None:
            return Arguments(text)
        return self._checked(args, kwargs)

    def _plain_text(self, kwargs: Mapping[str, Any]) -> str | None:
        """The usual call's arguments at a third of the cost; None where there is anything to look at more closely."""
        if len(kwargs) != len(self._fields):
            return None
        try:
            text = self.arguments.model_validate(kwargs).model_dump_json(by_alias=True)
        except ValueError:  # and so ValidationError, UnicodeError and PydanticSerializationError
            return None
        return text if is_plain(text) else None

    @cached_property
    def _is_plain(self) -> bool:
        """Whether no keys are made of the arguments."""
        return self.unique is self.group_by is self.limit_by is None and self.policy.limit_max is None

    def _checked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        try:
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
        except TypeError as error:
            raise InvalidArguments(f"{self.name}{self.signature}: {error}") from error
        try:
            model = self.arguments.model_validate(bound.arguments)
            stored = model.model_dump(mode="json", by_alias=True)
            text = encode(stored, what=f"arguments of {self.name}")
        except PayloadError as error:
            raise InvalidArguments(str(error)) from error
        except ValidationError as error:
            raise InvalidArguments(_readable(self.name, error)) from error
        except ValueError as error:
            raise InvalidArguments(f"arguments of {self.name} cannot be stored: {error}") from error
        if self.unique is self.group_by is self.limit_by is None:
            return Arguments(text, limit_key=None if self.policy.limit_max is None else self.name)
        values = self._values(model)
        unique, group, limit = (
            None if key is None else key.of(values, stored) for key in (self.unique, self.group_by, self.limit_by)
        )
        return Arguments(text, unique, group, self._limit_key(limit))

    def _limit_key(self, key: str | None) -> str | None:
        """A limit is shared by all jobs of the kind, or by those of one key, where the kind makes keys."""
        if self.policy.limit_max is None or (self.limit_by is not None and key is None):
            return None
        return self.name if key is None else fitting(f"{self.name}:{key}")

    def _values(self, model: BaseModel) -> dict[str, Any]:
        return {parameter: getattr(model, name) for parameter, name in self._fields}

    @cached_property
    def _fields(self) -> tuple[tuple[str, str], ...]:
        """The handler's parameters, and what they are called in the model."""
        return tuple((field.alias or name, name) for name, field in self.arguments.model_fields.items())

    def decode_arguments(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the handler from a job's row; `InvalidArguments` when they do not fit it."""
        try:
            model = self.arguments.model_validate(stored)
        except ValidationError as error:
            raise InvalidArguments(_readable(self.name, error)) from error
        return self._values(model)

    def encode_result(self, value: Any) -> str:
        """JSON text of what the handler returned; `InvalidResult` when it cannot be stored."""
        if value is None:
            return "null"
        try:
            return encode(self.result.dump_python(value, mode="json"), what=f"result of {self.name}")
        except PayloadError as error:
            raise InvalidResult(str(error)) from error
        except ValueError as error:
            raise InvalidResult(f"result of {self.name} cannot be stored: {error}") from error

    def decode_result(self, stored: Any) -> Any:
        """What the handler returned, in the type that it is annotated with; `InvalidResult` when it does not fit."""
        if stored is None:
            return None
        try:
            return self._returned.validate_python(stored)
        except ValidationError as error:
            raise InvalidResult(
                f"{_readable(f'result of {self.name}', error)}; as it is stored: (await hf.get(job.id)).result"
            ) from error

    @cached_property
    def _returned(self) -> TypeAdapter[Any]:
        """A handler that returns nothing may still have stored a result in its own transaction."""
        try:
            return TypeAdapter(Any if self.returns in (None, type(None)) else self.returns)
        except PydanticUserError:
            return TypeAdapter(Any)


def _refuse_other_retry(retry: object) -> None:
    if not isinstance(retry, RetryPolicy):
        raise ConfigurationError(f"retry is {retry!r:.50}; it must be a RetryPolicy, for example RetryPolicy(base=5)")


def make_kind(
    handler: Callable[..., Any],
    *,
    name: str,
    queue: str,
    priority: int,
    policy: Policy,
    context_type: type,
    isolation: str | None = None,
    unique: KeyBy | None = None,
    group_by: KeyBy | None = None,
    limit_by: KeyBy | None = None,
) -> Kind:
    """Read a handler's signature. A first parameter annotated with `context_type` receives the run's context."""
    storable_name("kind", name)
    storable_name("queue", queue, of=f"{name[:50]!r}: ")
    whole(f"{name}: priority", priority, -1000, 1000, note=" (-1000 is first)")
    refuse_generator(name, handler)
    is_async = inspect.iscoroutinefunction(handler)
    if isolation not in (None, "process", "async" if is_async else "thread"):
        fits = "'async' or 'process'" if is_async else "'thread' or 'process'"
        raise ConfigurationError(f"{name}: isolation is {isolation!r}; this handler can have {fits}")
    signature = inspect.signature(handler)
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{name}: an annotation cannot be resolved: {error}; import it at the top of the module, "
            "outside of TYPE_CHECKING"
        ) from error
    parameters = list(signature.parameters.values())
    wants_context = bool(parameters) and hints.get(parameters[0].name) is context_type
    if wants_context:
        parameters = parameters[1:]
    for parameter in parameters:
        if hints.get(parameter.name) is context_type:
            raise ConfigurationError(f"{name}: {parameter.name} is the run's context, which is the first parameter")
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"{name}: parameter {parameter} cannot be stored by name; write named parameters instead"
            )
    if limit_by and policy.limit_max is None:
        raise ConfigurationError(f"{name}: limit_by parts a limit, and there is none; add limit=1 or more")
    names = [parameter.name for parameter in parameters]
    return Kind(
        name=name,
        handler=handler,
        queue=queue,
        priority=priority,
        policy=policy,
        is_async=is_async,
        isolation=isolation or ("async" if is_async else "thread"),
        wants_context=wants_context,
        signature=signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty),
        arguments=_model_of(name, parameters, hints),
        result=TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants")),
        returns=hints.get("return", Any),
        unique=make_key(unique, option="unique", kind=name, parameters=names),
        group_by=make_key(group_by, option="group_by", kind=name, parameters=names),
        limit_by=make_key(limit_by, option="limit_by", kind=name, parameters=names),
    )


def _model_of(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> type[BaseModel]:
    """A model with one field a parameter, known by its alias: so a parameter may be called `json` or `_x`.

    NaN and Infinity stay what they are (pydantic would write null), so that they are refused and not changed.
    """
    fields: dict[str, Any] = {
        f"argument_{place}": (
            hints.get(parameter.name, Any),
            Field(... if parameter.default is parameter.empty else parameter.default, alias=parameter.name),
        )
        for place, parameter in enumerate(parameters)
    }
    config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    try:
        return create_model(f"arguments of {name}", __config__=config, **fields)
    except PydanticUserError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"{name}: its arguments cannot become JSON: {reason}") from error


def _readable(name: str, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = "".join(f"{part}." for part in first["loc"])[:-1]
    shown = repr(first.get("input"))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{name}: {where + ': ' if where else ''}{first['msg']}, got {shown[:120]}{more}"
