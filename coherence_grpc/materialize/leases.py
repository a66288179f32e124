"""Who materialises which tenants: without other processes, this one all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class EveryShard:
    """The shards of a process that shares its stores with nobody."""

    def holds(self, tenant_id: str) -> bool:  # noqa: ARG002 - the port's
        """Always."""
        return True

    @property
    def shards(self) -> None:
        """Every one."""

    def listen(self, on_changed: Callable[[], None]) -> None:
        """Nothing ever changes."""
