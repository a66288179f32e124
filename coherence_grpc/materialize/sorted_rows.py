"""Rows of integers sorted by their first, in chunks of arrays: what a window under a policy is made of."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Longer chunks cost more to insert into, shorter ones more to find.
CHUNK: Final = 1024
# ts, value, weight and group: 28 bytes a row.
_TYPES: Final = ("q", "L", "L", "I")

Row: TypeAlias = tuple[int, int, int, int]
_Chunk: TypeAlias = "tuple[array[int], array[int], array[int], array[int]]"


class SortedRows:
    """(ts, value_q, weight_q, group) in ts order; any row can be added and taken away, the oldest cheaply."""

    __slots__ = ("_chunks", "_lasts", "_start", "count")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._lasts: list[int] = []
        # Rows of the first chunk before this are gone already.
        self._start = 0
        self.count = 0

    @classmethod
    def of(cls, columns: Sequence[array[int]]) -> SortedRows:
        """Columns that are sorted by ts already."""
        rows = cls()
        for first in range(0, len(columns[0]), CHUNK):
            ts, value, weight, group = (column[first : first + CHUNK] for column in columns)
            rows._chunks.append((ts, value, weight, group))
            rows._lasts.append(ts[-1])
        rows.count = len(columns[0])
        return rows

    @property
    def first_ts(self) -> int | None:
        """The oldest ts."""
        return self._chunks[0][0][self._start] if self._chunks else None

    @property
    def last_ts(self) -> int | None:
        """The newest ts."""
        return self._lasts[-1] if self._lasts else None

    @property
    def allocated_bytes(self) -> int:
        """What the arrays take in memory."""
        return sum(column.__sizeof__() for chunk in self._chunks for column in chunk)

    def __iter__(self) -> Iterator[Row]:
        """The rows in order."""
        start = self._start
        for ts, value, weight, group in self._chunks:
            yield from zip(ts[start:], value[start:], weight[start:], group[start:], strict=True)
            start = 0

    def insert(self, row: Row) -> None:
        """Adds one row, behind those of the same ts."""
        index = bisect_right(self._lasts, row[0])
        if index == len(self._lasts):
            index = self._last_with_room()
        chunk = self._chunks[index]
        position = bisect_right(chunk[0], row[0], self._start if not index else 0)
        for column, number in zip(chunk, row, strict=True):
            column.insert(position, number)
        self._lasts[index] = chunk[0][-1]
        self.count += 1
        if len(chunk[0]) > CHUNK:
            self._split(index)

    def remove(self, row: Row) -> bool:
        """Takes one such row away; False when there is none."""
        for index in range(bisect_left(self._lasts, row[0]), len(self._chunks)):
            chunk = self._chunks[index]
            position = bisect_left(chunk[0], row[0], self._start if not index else 0)
            while position < len(chunk[0]) and chunk[0][position] == row[0]:
                if row == (chunk[0][position], chunk[1][position], chunk[2][position], chunk[3][position]):
                    self._delete(index, position)
                    return True
                position += 1
            if position < len(chunk[0]):
                return False
        return False

    def take_before(self, instant: int) -> list[Row]:
        """Removes the rows with ts < `instant` and returns them in order."""
        taken: list[Row] = []
        while self._chunks:
            ts, value, weight, group = self._chunks[0]
            part = slice(self._start, bisect_left(ts, instant, self._start))
            taken.extend(zip(ts[part], value[part], weight[part], group[part], strict=True))
            self._start = part.stop
            if self._start < len(ts):
                break
            self._forget_first()
        self.count -= len(taken)
        return taken

    def _last_with_room(self) -> int:
        if not self._chunks or len(self._chunks[-1][0]) >= CHUNK:
            ts, value, weight, group = (array(type_) for type_ in _TYPES)
            self._chunks.append((ts, value, weight, group))
            self._lasts.append(0)
        return len(self._chunks) - 1

    def _split(self, index: int) -> None:
        if not index and self._start:
            self._trim()
            return
        chunk, half = self._chunks[index], CHUNK // 2
        # Slices, because deleting in place keeps the memory.
        ts, value, weight, group = (column[half:] for column in chunk)
        self._chunks.insert(index + 1, (ts, value, weight, group))
        self._lasts.insert(index + 1, ts[-1])
        ts, value, weight, group = (column[:half] for column in chunk)
        self._chunks[index] = (ts, value, weight, group)
        self._lasts[index] = ts[-1]

    def _trim(self) -> None:
        ts, value, weight, group = (column[self._start :] for column in self._chunks[0])
        self._chunks[0] = (ts, value, weight, group)
        self._start = 0

    def _delete(self, index: int, position: int) -> None:
        chunk = self._chunks[index]
        for column in chunk:
            del column[position]
        self.count -= 1
        if len(chunk[0]) > (self._start if not index else 0):
            self._lasts[index] = chunk[0][-1]
        elif index:
            del self._chunks[index], self._lasts[index]
        else:
            self._forget_first()

    def _forget_first(self) -> None:
        del self._chunks[0], self._lasts[0]
        self._start = 0
