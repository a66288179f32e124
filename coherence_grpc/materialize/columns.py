"""Signals sorted by ts, as columns: what a window is made of, at 24 bytes a signal."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from operator import mul
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Longer chunks cost more to insert into, shorter ones more to find.
CHUNK: Final = 2048
HALF: Final = CHUNK // 2


class _Chunk:
    """A run of signals and their sums; those before `start` are gone already."""

    __slots__ = ("start", "ts", "value", "weight", "weight_sum", "weighted_sum")

    def __init__(self, ts: array[int], value: array[int], weight: array[int]) -> None:
        self.ts = ts
        self.value = value
        self.weight = weight
        self.start = 0
        self.weight_sum = sum(weight)
        self.weighted_sum = sum(map(mul, value, weight))

    def insert(self, ts: int, value_q: int, weight_q: int) -> None:
        position = bisect_right(self.ts, ts, self.start)
        self.ts.insert(position, ts)
        self.value.insert(position, value_q)
        self.weight.insert(position, weight_q)
        self.weight_sum += weight_q
        self.weighted_sum += value_q * weight_q

    def remove(self, ts: int, value_q: int, weight_q: int) -> bool:
        for position in range(bisect_left(self.ts, ts, self.start), bisect_right(self.ts, ts, self.start)):
            if (self.value[position], self.weight[position]) == (value_q, weight_q):
                del self.ts[position], self.value[position], self.weight[position]
                self.weight_sum -= weight_q
                self.weighted_sum -= value_q * weight_q
                return True
        return False

    def extend(self, ts: Sequence[int], value: Sequence[int], weight: Sequence[int]) -> None:
        self.ts.extend(ts)
        self.value.extend(value)
        self.weight.extend(weight)
        self.weight_sum += sum(weight)
        self.weighted_sum += sum(map(mul, value, weight))

    def split(self) -> _Chunk:
        """Keeps the first half and returns the second."""
        upper = _Chunk(self.ts[HALF:], self.value[HALF:], self.weight[HALF:])
        # Slices, because deleting in place keeps the memory.
        self.ts, self.value, self.weight = self.ts[:HALF], self.value[:HALF], self.weight[:HALF]
        self.weight_sum -= upper.weight_sum
        self.weighted_sum -= upper.weighted_sum
        return upper

    def drop_before(self, position: int) -> None:
        values, weights = self.value[self.start : position], self.weight[self.start : position]
        self.weight_sum -= sum(weights)
        self.weighted_sum -= sum(map(mul, values, weights))
        self.start = position
        if position > HALF:
            self.trim()

    def trim(self) -> None:
        """Gives back the memory of what is gone."""
        self.ts, self.value, self.weight = self.ts[self.start :], self.value[self.start :], self.weight[self.start :]
        self.start = 0


class Columns:
    """Signals in ts order with their exact sums; any of them can be added, the oldest can be taken away."""

    __slots__ = ("_chunks", "_lasts", "count", "weight_sum", "weighted_sum")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._lasts: list[int] = []
        self.count = 0
        self.weight_sum = 0
        self.weighted_sum = 0

    @classmethod
    def of(cls, ts: array[int], value: array[int], weight: array[int]) -> Columns:
        """Columns that are sorted by ts already."""
        columns = cls()
        for first in range(0, len(ts), CHUNK):
            part = slice(first, first + CHUNK)
            columns._push(_Chunk(ts[part], value[part], weight[part]))
        return columns

    @property
    def first_ts(self) -> int | None:
        """The oldest ts."""
        return self._chunks[0].ts[self._chunks[0].start] if self._chunks else None

    @property
    def last_ts(self) -> int | None:
        """The newest ts."""
        return self._lasts[-1] if self._lasts else None

    @property
    def allocated_bytes(self) -> int:
        """What the columns take in memory, without the few objects that hold them."""
        return sum(c.ts.__sizeof__() + c.value.__sizeof__() + c.weight.__sizeof__() for c in self._chunks)

    def insert(self, ts: int, value_q: int, weight_q: int) -> None:
        """Adds one signal, anywhere."""
        lasts = self._lasts
        if not lasts or ts >= lasts[-1]:
            self.extend((ts,), (value_q,), (weight_q,))
            return
        index = bisect_left(lasts, ts)
        chunk = self._chunks[index]
        chunk.insert(ts, value_q, weight_q)
        if len(chunk.ts) > CHUNK:
            self._relieve(index, chunk)
        self.count += 1
        self.weight_sum += weight_q
        self.weighted_sum += value_q * weight_q

    def extend(self, ts: Sequence[int], value: Sequence[int], weight: Sequence[int]) -> None:
        """Adds signals that are sorted by ts, none of them before `last_ts`."""
        first, count = 0, len(ts)
        while first < count:
            if not self._chunks or len(self._chunks[-1].ts) >= CHUNK:
                self._chunks.append(_Chunk(array("q"), array("L"), array("L")))
                self._lasts.append(ts[first])
            chunk = self._chunks[-1]
            part = slice(first, first + CHUNK - len(chunk.ts))
            self.weight_sum -= chunk.weight_sum
            self.weighted_sum -= chunk.weighted_sum
            chunk.extend(ts[part], value[part], weight[part])
            self.weight_sum += chunk.weight_sum
            self.weighted_sum += chunk.weighted_sum
            self._lasts[-1] = chunk.ts[-1]
            first = part.stop
        self.count += count

    def remove(self, ts: int, value_q: int, weight_q: int) -> bool:
        """Takes one such signal away; False when there is none."""
        for index in range(bisect_left(self._lasts, ts), len(self._chunks)):
            chunk = self._chunks[index]
            if chunk.ts[chunk.start] > ts:
                return False
            if chunk.remove(ts, value_q, weight_q):
                self.count -= 1
                self.weight_sum -= weight_q
                self.weighted_sum -= value_q * weight_q
                if chunk.start == len(chunk.ts):
                    del self._chunks[index], self._lasts[index]
                else:
                    self._lasts[index] = chunk.ts[-1]
                return True
        return False

    def take_before(self, instant: int) -> Iterable[tuple[int, int, int]]:
        """Removes the signals with ts < `instant` and returns them in order."""
        taken: list[tuple[int, int, int]] = []
        for chunk in self._chunks:
            end = bisect_left(chunk.ts, instant, chunk.start)
            part = slice(chunk.start, end)
            taken.extend(zip(chunk.ts[part], chunk.value[part], chunk.weight[part], strict=True))
            if end < len(chunk.ts):
                break
        self.drop_before(instant)
        return taken

    def drop_before(self, instant: int) -> bool:
        """Removes the signals with ts < `instant`; whether there were any."""
        before = self.count
        whole = bisect_left(self._lasts, instant)
        for chunk in self._chunks[:whole]:
            self._forget(chunk, len(chunk.ts) - chunk.start)
        del self._chunks[:whole], self._lasts[:whole]
        if self._chunks:
            self._drop_from_first(instant)
        return self.count < before

    def _drop_from_first(self, instant: int) -> None:
        chunk = self._chunks[0]
        end = bisect_left(chunk.ts, instant, chunk.start)
        if end == chunk.start:
            return
        self.count -= end - chunk.start
        self.weight_sum -= chunk.weight_sum
        self.weighted_sum -= chunk.weighted_sum
        chunk.drop_before(end)
        self.weight_sum += chunk.weight_sum
        self.weighted_sum += chunk.weighted_sum

    def _relieve(self, index: int, chunk: _Chunk) -> None:
        if chunk.start:
            chunk.trim()
            return
        upper = chunk.split()
        self._chunks.insert(index + 1, upper)
        self._lasts.insert(index, chunk.ts[-1])

    def _push(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self._lasts.append(chunk.ts[-1])
        self.count += len(chunk.ts)
        self.weight_sum += chunk.weight_sum
        self.weighted_sum += chunk.weighted_sum

    def _forget(self, chunk: _Chunk, count: int) -> None:
        self.count -= count
        self.weight_sum -= chunk.weight_sum
        self.weighted_sum -= chunk.weighted_sum
