"""Named places at which a test has this process killed, stopped or made to fail.

COHERENCE_FAILPOINTS arms them, in the profile dev only. A place that is not armed costs a look into an empty dict.
"""

from __future__ import annotations

import logging
import re
import signal
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import OutcomeUnknown, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VARIABLE: Final = "COHERENCE_FAILPOINTS"
PLACES: Final[Mapping[str, str]] = {
    "append.before": "a group of writes is about to go to the signal store",
    "append.written": "inside its transaction, with the tenants' heads locked, before the commit",
    "append.after": "committed, and nobody knows",
    "ring.before": "this process knows, the others are not told yet",
    "ack.before": "a request is stored, and its caller not answered yet",
    "mark.before": "between the commit and its dedupe marks in Redis",
    "publish.before": "score rows are about to go to the score store",
    "publish.written": "written to PostgreSQL, whose connection and transaction are still held",
    "publish.after": "the rows are in place, and nobody knows",
}
ACTIONS: Final = ("kill", "stop", "error")
_POINT: Final = re.compile(rf"({'|'.join(map(re.escape, PLACES))})=({'|'.join(ACTIONS)})(?::([1-9]\d{{0,8}}))?")
_SKEW: Final = re.compile(r"clock=([+-]\d{1,6}(?:\.\d{1,6})?)")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Point:
    """What happens at a place, once, when it is reached for the `left`-th time."""

    place: str
    action: str
    left: int

    def reached(self) -> None:
        self.left -= 1
        if self.left:
            return
        del _armed[self.place]
        _log.warning("failpoint %s: %s", self.place, self.action)
        if self.action == "error":
            message = f"failpoint {self.place}: failed as it was told to"
            raise OutcomeUnknown(message, metadata={"outcome": "unknown"})
        # To this very thread: it does not take another step.
        signal.pthread_kill(get_ident(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)


_armed: Final[dict[str, _Point]] = {}
_ahead_us = 0


def failpoint(place: str) -> None:
    """The process has come to this place; nothing happens unless it is armed."""
    point = _armed.get(place)
    if point is not None:
        point.reached()


def skewed(wall: Callable[[], int]) -> Callable[[], int]:
    """The clock, in microseconds, as wrong as it was told to be; itself when it was not."""
    ahead_us = _ahead_us
    return (lambda: wall() + ahead_us) if ahead_us else wall


def arm(text: str, *, profile: str) -> None:
    """Arms what the text names, `PLACE=kill|stop|error[:NTH time]` or `clock=±SECONDS`, and nothing else.

    Raises:
        SettingsInvalid: the text can't be read, or the profile is not dev.
    """
    global _ahead_us  # noqa: PLW0603 - one process has one clock
    _armed.clear()
    _ahead_us = 0
    if not text:
        return
    if profile != "dev":
        message = f"{VARIABLE} makes a process fail on purpose, and this is profile {profile}; unset it"
        raise SettingsInvalid(message)
    for part in text.split(","):
        if skew := _SKEW.fullmatch(part):
            _ahead_us = round(float(skew[1]) * 1e6)
        elif point := _POINT.fullmatch(part):
            _armed[point[1]] = _Point(point[1], point[2], int(point[3] or 1))
        else:
            message = (
                f"{VARIABLE}: {part!r} is neither PLACE=ACTION[:NTH] nor clock=±SECONDS; "
                f"places are {', '.join(PLACES)}, actions {', '.join(ACTIONS)}"
            )
            raise SettingsInvalid(message)
    _log.warning("%s is set: this process will fail on purpose: %s", VARIABLE, text)
