"""Positions and pages of a tenant's events as the two stores hold them: what is read below the ring."""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import CursorExpired
from coherence_grpc.events.frames import Position, Positions
from coherence_grpc.events.runs import Scored, Skipped, after_entry, after_version, cursor_of, entry_runs
from coherence_grpc.model import GENESIS, EntryKind
from coherence_grpc.tokens import PREFIX_BYTES, Cursor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from coherence_grpc.events.frames import Start
    from coherence_grpc.events.runs import Run
    from coherence_grpc.model import Entry, Score
    from coherence_grpc.ports import ScoreStore, SignalStore

PAGE: Final = 512


class Log:
    """What the stores know of positions."""

    def __init__(self, signals: SignalStore, scores: ScoreStore) -> None:
        self.signals = signals
        self.scores = scores

    async def latest(self, tenant_id: str) -> Cursor:
        """The newest position of a tenant."""
        return (await self.latest_of((tenant_id,)))[tenant_id]

    async def latest_of(self, tenant_ids: Collection[str]) -> Mapping[str, Cursor]:
        """The newest position of each tenant."""
        # Scores first: the heads read after them cover every entry that they cover.
        rows = await self.scores.get(tenant_ids)
        heads = await self.signals.heads(tenant_ids)
        epoch = self.scores.epoch
        return {t: cursor_of(heads[t], epoch, rows[t].version if t in rows else 0) for t in tenant_ids}

    async def positions(self, tenant_id: str, start: Start) -> Positions:
        """The cursor for a start, with the range that can be read."""
        cursor = await self.resolve(tenant_id, start)
        earliest, earliest_seq = await self._earliest(tenant_id)
        latest = await self.latest(tenant_id)
        return Positions(cursor, earliest, latest, earliest_seq, latest.seq)

    async def earliest(self, tenant_id: str) -> Cursor:
        """The position before the oldest entry that can be read."""
        return (await self._earliest(tenant_id))[0]

    async def resolve(self, tenant_id: str, start: Start) -> Cursor:
        """The cursor for a start; an instant ahead of everything recorded is the newest position.

        Raises:
            CursorExpired: the cursor is of another epoch, beyond what is stored, or of another history.
        """
        if isinstance(start, Cursor):
            await self._check(tenant_id, start)
            return start
        if start is Position.LATEST:
            return await self.latest(tenant_id)
        if start is Position.EARLIEST:
            return await self.earliest(tenant_id)
        version = await self.scores.version_at(tenant_id, int(start))
        return await self._cursor(tenant_id, await self.signals.seq_at(tenant_id, int(start)), version)

    async def _earliest(self, tenant_id: str) -> tuple[Cursor, int]:
        # The head first: an entry that joins an empty log in between is not passed over.
        head = await self.signals.head(tenant_id)
        first = await self.signals.first_readable(tenant_id)
        seq = first - 1 if first else head.seq
        policy = await self._policy_before(tenant_id, seq)
        if policy:
            seq, first = policy - 1, policy
        return await self._cursor(tenant_id, seq, 0), first

    async def _policy_before(self, tenant_id: str, seq: int) -> int:
        """The oldest policy up to the entry with nothing erased since, at most a page back; 0 when there is none."""
        after = max(0, seq - PAGE)
        entries = await self.signals.tail(tenant_id, after=after, limit=PAGE) if seq else ()
        kept = takewhile(lambda entry: not entry.erased, reversed([entry for entry in entries if entry.seq <= seq]))
        return min((entry.seq for entry in kept if entry.kind is EntryKind.POLICY), default=0)

    async def _cursor(self, tenant_id: str, seq: int, version: int) -> Cursor:
        head_hash = await self.signals.hash_at(tenant_id, seq)
        prefix = (head_hash or GENESIS)[:PREFIX_BYTES]
        return Cursor(self.signals.epoch, seq, prefix, self.scores.epoch, version)

    async def _check(self, tenant_id: str, cursor: Cursor) -> None:
        problem = await self._problem(tenant_id, cursor)
        if not problem:
            return
        earliest = await self.signals.first_readable(tenant_id)
        latest = (await self.signals.head(tenant_id)).seq
        message = f"the cursor {problem}; start from POSITION_EARLIEST, or from a time"
        raise CursorExpired(message, metadata={"earliest_seq": str(earliest), "latest_seq": str(latest)})

    async def _problem(self, tenant_id: str, cursor: Cursor) -> str:
        if (cursor.signal_epoch, cursor.score_epoch) != (self.signals.epoch, self.scores.epoch):
            return "is from before the store was replaced or rebuilt"
        head_hash = await self.signals.hash_at(tenant_id, cursor.seq)
        if head_hash is None:
            return f"points at entry {cursor.seq}, which is not in the log"
        if head_hash[:PREFIX_BYTES] != cursor.hash_prefix:
            return f"saw another entry {cursor.seq} than the log holds"
        row = (await self.scores.get((tenant_id,))).get(tenant_id)
        if cursor.version > (row.version if row is not None else 0):
            return f"points at score version {cursor.version}, which was never published"
        return ""


class Feed:
    """Reads a tenant's entries and score rows after a position, merged: a score follows the entries it covers.

    A feed without entries reads none of them; its position takes the entry number and hash of the scores.
    """

    def __init__(self, log: Log, tenant_id: str, position: Cursor, *, with_entries: bool) -> None:
        self.position = position
        self.with_entries = with_entries
        self._log = log
        self._tenant_id = tenant_id
        self._entries: deque[Entry] = deque()
        self._rows: deque[Score] = deque()
        self._read = position
        self._rows_to = position.version

    def copy(self) -> Feed:
        """Another one at the same place."""
        feed = Feed(self._log, self._tenant_id, self.position, with_entries=self.with_entries)
        feed._entries, feed._rows = self._entries.copy(), self._rows.copy()
        feed._read, feed._rows_to = self._read, self._rows_to
        return feed

    async def read(self, target: Cursor) -> Sequence[Run]:
        """The next runs, at most about two pages, none beyond the target; the last one ends at it when all is read."""
        await self._fill(target)
        runs = self._merge(target)
        complete = not self._entries and not self._rows and self._rows_to >= target.version
        if complete and self._seq_reached(target) and self.position != target:
            # The newest rows up to the target were thinned out, or its entries are of no interest.
            runs.append(self._move(Skipped(self.position, target)))
        return runs

    async def _fill(self, target: Cursor) -> None:
        after = self._read.seq
        if self.with_entries and not self._entries and after < target.seq:
            limit = min(PAGE, target.seq - after)
            self._entries.extend(await self._log.signals.tail(self._tenant_id, after=after, limit=limit))
            if self._entries:
                self._read = after_entry(self._read, self._entries[-1].seq, self._entries[-1].head_hash)
        if not self._rows and self._rows_to < target.version:
            rows = await self._log.scores.history(self._tenant_id, after_version=self._rows_to, limit=PAGE)
            self._rows.extend(row for row in rows if row.version <= target.version)
            ended = len(rows) < PAGE or len(self._rows) < len(rows)
            self._rows_to = target.version if ended else rows[-1].version

    def _merge(self, target: Cursor) -> list[Run]:
        runs: list[Run] = []
        while self._rows or self._entries:
            if self._rows and self._due(self._rows[0], target):
                runs.append(self._move(self._scored(self._rows.popleft())))
            elif self._entries and (self._rows or self._rows_to >= target.version):
                runs.extend(map(self._move, entry_runs(self.position, self._entries_until_score())))
            else:
                # One side has to be read on before it is known which comes next.
                break
        return runs

    def _due(self, row: Score, target: Cursor) -> bool:
        covered = not self.with_entries or row.as_of_seq <= self.position.seq
        return covered or (not self._entries and self._read.seq >= target.seq)

    def _entries_until_score(self) -> list[Entry]:
        if not self._rows:
            taken = list(self._entries)
        else:
            upto = self._rows[0].as_of_seq
            taken = list(takewhile(lambda entry: entry.seq <= upto, self._entries))
        for _ in taken:
            self._entries.popleft()
        return taken

    def _scored(self, row: Score) -> Scored:
        before = self.position
        after = after_version(before, row.version)
        if not self.with_entries and row.as_of_seq > before.seq:
            after = after_version(after_entry(before, row.as_of_seq, row.head_hash), row.version)
        return Scored(before, after, row)

    def _move(self, run: Run) -> Run:
        self.position = run.after
        return run

    def _seq_reached(self, target: Cursor) -> bool:
        return not self.with_entries or self.position.seq >= target.seq
