"""Decorators that make a kind of a function and keep the types of its arguments and its result."""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from holdfast.handles import JobKind
from holdfast.services.context import Context

P = ParamSpec("P")
R = TypeVar("R")


class KindDecorator:
    """What `Holdfast.job` returns."""

    def __init__(self, make: Callable[[Callable[..., Any]], JobKind[..., Any]]) -> None:
        self._make = make

    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], R]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R]) -> JobKind[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> JobKind[Any, Any]:
        return self._make(handler)


class PeriodicDecorator:
    """What `Holdfast.periodic` returns: for a kind, or for a function that becomes one."""

    def __init__(self, make: Callable[[Callable[..., Any]], JobKind[..., Any]]) -> None:
        self._make = make

    @overload
    def __call__(self, handler: JobKind[P, R]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], R]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R]) -> JobKind[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> JobKind[Any, Any]:
        return self._make(handler)
