"""Columns as they would be with other signals."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, TypeAlias

from coherence_grpc.ports import Group, WindowColumns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.model import Item

_Row: TypeAlias = tuple[int, int, int, int]


def suppose(columns: WindowColumns, added: Sequence[Item], gone: Sequence[Item]) -> WindowColumns | None:
    """The columns with the signals that are added and without those that are gone; muted ones change nothing.

    None when one that should be gone is not there.
    """
    groups = list(columns.groups)
    dropped: set[int] = set()
    for item in gone:
        index = _find(columns, item, dropped) if item.weight_q else len(columns.ts)
        if index is None:
            return None
        dropped.add(index)
    numbers = {group: number for number, group in enumerate(groups)}
    rows = [_row(item, numbers) for item in added if item.weight_q]
    ts, value_q, weight_q, group = _edited(columns, sorted(rows), dropped)
    grouped = columns.group is not None
    return columns._replace(
        ts=ts,
        value_q=value_q,
        weight_q=weight_q,
        group=group if grouped else None,
        groups=list(numbers) if grouped else (),
    )


def columns_since(columns: WindowColumns, start: int) -> WindowColumns:
    """The columns without what is older than `start`."""
    first = bisect_left(columns.ts, start)
    return columns._replace(
        ts=columns.ts[first:],
        value_q=columns.value_q[first:],
        weight_q=columns.weight_q[first:],
        group=None if columns.group is None else columns.group[first:],
    )


def _row(item: Item, numbers: dict[Group, int]) -> _Row:
    return item.ts, item.value_q, item.weight_q, numbers.setdefault(Group(item.source, item.type), len(numbers))


def _find(columns: WindowColumns, item: Item, taken: set[int]) -> int | None:
    """The place of such a signal that is not taken yet."""
    ts, group = columns.ts, Group(item.source, item.type)
    for index in range(bisect_left(ts, item.ts), bisect_right(ts, item.ts)):
        same = (columns.value_q[index], columns.weight_q[index]) == (item.value_q, item.weight_q)
        if same and index not in taken and (columns.group is None or columns.groups[columns.group[index]] == group):
            return index
    return None


def _edited(columns: WindowColumns, rows: Sequence[_Row], dropped: set[int]) -> Iterator[array[int]]:
    """Each column with the rows put in and the dropped places left out."""
    places = [bisect_right(columns.ts, row[0]) for row in rows]
    drops = sorted(index for index in dropped if index < len(columns.ts))
    # A row goes in before its place.
    edits = sorted([(place, 0, number) for number, place in enumerate(places)] + [(index, 1, 0) for index in drops])
    sources = (columns.ts, columns.value_q, columns.weight_q, columns.group or array("I", bytes(4 * len(columns.ts))))
    for which, source in enumerate(sources):
        column, done = array(source.typecode), 0
        for place, is_drop, number in edits:
            column.extend(source[done:place])
            done = place + is_drop
            if not is_drop:
                column.append(rows[number][which])
        column.extend(source[done:])
        yield column
