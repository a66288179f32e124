"""Read-your-writes: what a caller wrote is remembered for a while and asked for in its next reads."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from subgraph.backbone import Caller

REMEMBERED_S: Final = 10.0
REMEMBERED_MAX: Final = 10_000


class Revisions:
    """The newest revision that each caller wrote, by (authorization, tenant), for ten seconds."""

    def __init__(self) -> None:
        self._written: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    def wrote(self, caller: Caller, tenant_id: str, token: str) -> None:
        """Keep the revision of a write."""
        key = (caller.authorization, tenant_id)
        self._written.pop(key, None)
        self._written[key] = (time.monotonic() + REMEMBERED_S, token)
        if len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)

    def last_written(self, caller: Caller, tenant_id: str) -> str:
        """The revision that this caller's reads of the tenant must have seen; '' without a recent write."""
        if not self._written:
            return ""
        until, token = self._written.get((caller.authorization, tenant_id), (0.0, ""))
        return token if time.monotonic() < until else ""
