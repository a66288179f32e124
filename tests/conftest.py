from __future__ import annotations

import asyncio
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytest_plugins = ["tests.backends.plugin"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Let no test inherit a request to cancel.

    Tests that share a fixture share a task. A TaskGroup whose child fails while it is being left does not take back
    its request to cancel that task (CPython 3.11), and a timeout of 3.11.2 that finds one there cancels the task
    instead of raising TimeoutError: then every test after it fails.
    """
    if iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _with_nothing_to_cancel(pyfuncitem.obj)


def _with_nothing_to_cancel(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(test)
    async def whole(**arguments: object) -> None:
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        await test(**arguments)

    return whole
