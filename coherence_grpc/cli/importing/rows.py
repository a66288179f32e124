"""Files as rows: each a signal with its line number, or a reject with the reason."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Protocol

from coherence_grpc.cli.records import FIELDS, RecordInvalid, signal_of_cells, signal_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coherence.v1.signal_pb2 import Signal

# A longer line can't be a signal: the longest fields together are a hundredth of this.
MAX_LINE_BYTES: Final = 1_048_576
KEPT_BYTES: Final = 4_096
REQUIRED: Final = ("tenant_id", "source", "type", "value")


class Row(NamedTuple):
    """A signal of a tenant, the line it stands on, and its text."""

    line: int
    tenant_id: str
    signal: Signal
    text: str


class Reject(NamedTuple):
    """A line that is no signal: which field ('' for all of it), what is wrong with it, and its text."""

    line: int
    field: str
    problem: str
    text: str


class Source(Protocol):
    """Rows to import, always in the same order, and how far reading them has come."""

    @property
    def total(self) -> int:
        """The size, in the unit of `position`."""
        ...

    @property
    def position(self) -> int:
        """How much has been read."""
        ...

    def rows(self) -> Iterator[Row | Reject]:
        """Every row, once."""
        ...


class JsonLines:
    """One JSON object a line; empty lines don't count."""

    def __init__(self, stream: IO[bytes], *, total: int = 0, tenant_id: str = "") -> None:
        self._stream = stream
        self._tenant_id = tenant_id
        self.total = total
        self.position = 0

    def rows(self) -> Iterator[Row | Reject]:
        """Every line that isn't empty."""
        number = 0
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            self.position += len(line)
            if len(line) > MAX_LINE_BYTES:
                self._skip_line(line)
                yield Reject(number, "", f"is longer than {MAX_LINE_BYTES:,} bytes", _kept(line))
            elif line.strip():
                yield self._row(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)

    def _row(self, number: int, line: bytes) -> Row | Reject:
        try:
            return _owned(number, signal_of_json(line), self._tenant_id, _kept(line))
        except RecordInvalid as invalid:
            return Reject(number, invalid.field, invalid.problem, _kept(line))

    def _skip_line(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(MAX_LINE_BYTES)
            self.position += len(line)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a CSV's cells go: field → column, the fields that are the same on every row, the tenant of the rest."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    tenant_id: str = ""

    def places(self, header: Sequence[str]) -> dict[str, int]:
        """Field → place in a row. A field that isn't mapped is taken from the column of its own name, if any.

        Raises:
            ValueError: a column isn't there, or is there twice, or nothing is mapped to a required field.
        """
        wanted = {field: field for field in FIELDS if field in header} | dict(self.columns)
        places = {}
        for field, column in wanted.items():
            if field in self.constants:
                continue
            if header.count(column) != 1:
                how = "is there twice" if column in header else "is not there"
                message = f"the column {column!r} for {field} {how}; the header is {', '.join(header)}"
                raise ValueError(message)
            places[field] = header.index(column)
        given = {*places, *self.constants, *(["tenant_id"] if self.tenant_id else [])}
        missing = [field for field in REQUIRED if field not in given]
        if missing:
            message = f"nothing gives {' and '.join(missing)}; add --map {missing[0]}=COLUMN or --set {missing[0]}=TEXT"
            raise ValueError(message)
        return places


class Csv:
    """Comma-separated values with a header; empty rows don't count, empty cells are left out."""

    def __init__(self, stream: IO[bytes], columns: Columns, *, total: int = 0) -> None:
        self._stream = stream
        self._columns = columns
        self.total = total

    @property
    def position(self) -> int:
        """Bytes read, in steps of the buffer."""
        return self._stream.tell()

    def rows(self) -> Iterator[Row | Reject]:
        """Every row below the header.

        Raises:
            ValueError: the header doesn't have what the columns ask for.
        """
        csv.field_size_limit(MAX_LINE_BYTES)
        text = io.TextIOWrapper(self._stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text)
        header = next(reader, [])
        places = self._columns.places(header)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Reject(line, "", f"is not CSV: {error}", "")
                continue
            if cells is None:
                # Else the wrapper would close a stream that isn't its own.
                text.detach()
                return
            if cells:
                yield self._row(line, cells, places, len(header))

    def _row(self, line: int, cells: list[str], places: Mapping[str, int], width: int) -> Row | Reject:
        text = ",".join(cells)[:KEPT_BYTES]
        if len(cells) > width:
            return Reject(line, "", f"has {len(cells)} cells, but the header has {width}", text)
        fields = {field: cells[place] for field, place in places.items() if place < len(cells)}
        try:
            return _owned(line, signal_of_cells({**fields, **self._columns.constants}), self._columns.tenant_id, text)
        except RecordInvalid as invalid:
            return Reject(line, invalid.field, invalid.problem, text)


def _owned(line: int, signal: Signal, default_tenant: str, text: str) -> Row:
    tenant_id = signal.tenant_id or default_tenant
    if not tenant_id:
        raise RecordInvalid(field="tenant_id", problem="is missing; add it, or name one for all with --tenant")
    # The request names the tenant: said once instead of on every signal.
    signal.ClearField("tenant_id")
    return Row(line, tenant_id, signal, text)


def _kept(line: bytes) -> str:
    return line[:KEPT_BYTES].decode("utf-8", "surrogateescape").rstrip("\r\n")
