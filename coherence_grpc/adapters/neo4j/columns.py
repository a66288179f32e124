"""The columns of a window, put together from chunks and from what the chunks missed."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from coherence_grpc.ports import Group, WindowColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coherence_grpc.model import Head, StoredSignal

Name = TypeVar("Name")


class Numbers(dict[Name, int]):
    """Numbers what it is asked for as it comes up."""

    def __missing__(self, name: Name) -> int:
        number = self[name] = len(self)
        return number


class Columns:
    """Rows in the order of their instants; `upcoming` is the ts of the first one after the window."""

    def __init__(self, head: Head, *, grouped: bool) -> None:
        self.head = head
        self.upcoming: int | None = None
        self.ts, self.seq, self._value_q, self._weight_q = array("q"), array("q"), array("q"), array("q")
        self._group = array("q") if grouped else None
        self._groups = Numbers[tuple[str, str]]()

    def extend(self, chunk: Sequence[Any]) -> int:
        """Puts the lists of a chunk behind the rows: instants, values, weights, numbers, and names; how many rows."""
        columns, names = chunk[:4], chunk[4:]
        for column, values in zip((self.ts, self._value_q, self._weight_q, self.seq), columns, strict=True):
            column.fromlist(values)
        if self._group is not None:
            self._group.extend(map(self._groups.__getitem__, zip(*names, strict=True)))
        return len(columns[0])

    def insert(self, missed: Iterable[StoredSignal]) -> None:
        """Puts those of the signals in their places that are not there."""
        there = frozenset(self.seq)
        signals = sorted((one for one in missed if one.seq not in there), key=lambda one: one.item.ts)
        places = [bisect_right(self.ts, one.item.ts) for one in signals]
        items = [one.item for one in signals]
        self._value_q = _with(self._value_q, places, [item.value_q for item in items])
        self._weight_q = _with(self._weight_q, places, [item.weight_q for item in items])
        self.seq = _with(self.seq, places, [one.seq for one in signals])
        self.ts = _with(self.ts, places, [item.ts for item in items])
        if self._group is not None:
            self._group = _with(self._group, places, [self._groups[item.source, item.type] for item in items])

    def window(self) -> WindowColumns:
        """The rows without their numbers."""
        groups = [Group(*names) for names in self._groups]
        return WindowColumns(self.ts, self._value_q, self._weight_q, self.head, self._group, groups, self.upcoming)


def _with(column: array[int], places: Sequence[int], values: Sequence[int]) -> array[int]:
    """The column with the values before the rows at the places, which ascend."""
    bounds = [0, *places, len(column)]
    found = array("q")
    for (begin, end), value in zip(pairwise(bounds), [*values, None], strict=True):
        found.extend(column[begin:end])
        if value is not None:
            found.append(value)
    return found
