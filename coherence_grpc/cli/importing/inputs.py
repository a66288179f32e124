"""What can be imported: files of JSON lines or CSV, and the preset; each with a digest that names its content."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.importing.archive import SHA256, cache_directory, flight_archive
from coherence_grpc.cli.importing.flights import FlightArchive, Flights
from coherence_grpc.cli.importing.rows import Columns, Csv, JsonLines
from coherence_grpc.cli.records import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from coherence_grpc.cli.importing.rows import Source

PRESET: Final = "nycflights13"
FORMATS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}


class Input(NamedTuple):
    """An open source, the digest of its content and of how it is read, and where files about it belong."""

    source: Source
    digest: str
    beside: Path


@contextmanager
def open_preset(cache: Path | None, say: Callable[[str], None]) -> Iterator[Input]:
    """The flights of 2013, fetched if need be."""
    directory = cache_directory(cache)
    archive = flight_archive(directory, say)
    yield Input(Flights(FlightArchive(archive)), SHA256, directory / PRESET)


@contextmanager
def open_file(path: Path, kind: str | None, columns: Columns, tenant_id: str) -> Iterator[Input]:
    """A file of JSON lines or CSV, as `kind` or its name says."""
    kind = kind or FORMATS.get(path.suffix.lower())
    if kind is None:
        message = f"{path}: the name does not say what it is"
        raise Failure(message, "add --format jsonl or --format csv", exit_code=USAGE)
    if kind == "jsonl" and columns.columns:
        message = "--map is for CSV; the fields of JSON lines have the API's names"
        raise Failure(message, "leave --map out", exit_code=USAGE)
    reading = repr((kind, sorted(columns.columns.items()), sorted(columns.constants.items()), tenant_id))
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        stream.seek(0)
        source: Source
        if kind == "csv":
            source = Csv(stream, columns, total=size)
        else:
            source = JsonLines(stream, total=size, tenant_id=tenant_id)
        yield Input(source, hashlib.sha256(f"{content}{reading}".encode()).hexdigest(), path)


def columns_of(mapped: Sequence[str], fixed: Sequence[str], tenant_id: str) -> Columns:
    """What `--map FIELD=COLUMN`, `--set FIELD=TEXT` and `--tenant` say about the cells of a CSV."""
    return Columns(
        dict(_pair("--map", text) for text in mapped), dict(_pair("--set", text) for text in fixed), tenant_id
    )


def _pair(option: str, text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or field not in FIELDS:
        message = f"{option} {text!r}: write it as FIELD={'COLUMN' if option == '--map' else 'TEXT'}"
        raise Failure(message, f"the fields are {', '.join(FIELDS)}", exit_code=USAGE)
    return field, value
