"""Strawberry's decorators with their types, and arguments that may be left out."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import strawberry

_Resolver = TypeVar("_Resolver", bound=Callable[..., Any])
_Value = TypeVar("_Value")


def resolved(description: str) -> Callable[[_Resolver], _Resolver]:
    """A field that a method answers."""
    return cast("Callable[[_Resolver], _Resolver]", strawberry.field(description=description))


def subscribed(description: str) -> Callable[[_Resolver], _Resolver]:
    """A subscription field whose events an async generator yields."""
    return cast("Callable[[_Resolver], _Resolver]", strawberry.subscription(description=description))


def given(value: _Value | None) -> _Value | None:
    """The value that a caller gave; None also for one left out, which Strawberry keeps apart from null."""
    return None if value is strawberry.UNSET else value
