"""How far each log had come a moment ago, as far as this process was told: a row that has not seen it is behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# A row is published within 100 ms, and may be on its way for a while.
SETTLED_S: Final = 1.0
MANY: Final = 4096


class _Log:
    """`due` was heard of a moment ago or earlier, `before` by `since`, `last` less than a moment after that."""

    __slots__ = ("before", "due", "last", "since")

    def __init__(self, since: float) -> None:
        self.due = self.before = self.last = 0
        self.since = since

    def settle(self, now: float) -> None:
        passed = now - self.since
        if passed >= SETTLED_S:
            self.due = self.last if passed >= 2 * SETTLED_S else self.before
            self.before, self.since = self.last, now


class Heard:
    """Remembers the numbers of commits."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logs: dict[str, _Log] = {}

    def moved(self, tenant_id: str, seq: int) -> None:
        """The tenant's log has entry `seq`."""
        now = self._monotonic()
        log = self._logs.get(tenant_id)
        if log is None:
            if len(self._logs) >= MANY:
                self._logs.clear()
            log = self._logs[tenant_id] = _Log(now)
        log.settle(now)
        log.last = max(log.last, seq)

    def due(self, tenant_id: str) -> int:
        """The last entry heard of that every row should have seen by now; none that is two moments old is left out."""
        log = self._logs.get(tenant_id)
        if log is None:
            return 0
        log.settle(self._monotonic())
        return log.due
