"""The demo's departures in the order in which they became known."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from coherence_grpc.cli.instants import SECOND, parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.cli.importing.flights import Departure

HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
START: Final = parse_instant("2013-02-08T00:00:00Z")
END: Final = parse_instant("2013-02-11T00:00:00Z")


class Feed:
    """Hands out each departure once, when its emission time has come."""

    def __init__(self, departures: Iterable[Departure], *, start: int, until: int | None = None) -> None:
        """Takes those that a window from `start` on can hold and that are known by `until`, if that is given."""
        wanted = (
            one
            for one in departures
            if (one.ts >= start - DAY or one.emitted > start) and (until is None or one.emitted <= until)
        )
        self._departures = sorted(wanted, key=lambda one: (one.emitted, one.ts, one.tenant_id, one.signal_id))
        self._next = 0

    @property
    def handed_out(self) -> int:
        """How many there were so far."""
        return self._next

    def due(self, now: int) -> Mapping[str, Sequence[Departure]]:
        """The departures emitted up to this instant and not handed out yet, by tenant."""
        by_tenant: dict[str, list[Departure]] = defaultdict(list)
        while self._next < len(self._departures) and self._departures[self._next].emitted <= now:
            departure = self._departures[self._next]
            by_tenant[departure.tenant_id].append(departure)
            self._next += 1
        return by_tenant


def hours_between(after: int, until: int) -> range:
    """The full hours after the one instant, up to and including the other."""
    return range((after // HOUR + 1) * HOUR, until + 1, HOUR)
