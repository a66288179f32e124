"""The ring by itself: where readers join it, and what they take."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.events import Batch, EventFilter, EventKind, Gap
from coherence_grpc.events.ring import Ring
from coherence_grpc.events.runs import PolicyChange, Scored, Signals, Skipped, after_entry, after_version
from coherence_grpc.model import Entry, EntryKind
from coherence_grpc.policy import DEFAULT, encode_policy
from coherence_grpc.tokens import Cursor
from tests.builders import NOON, TENANT, a_score, an_item

if TYPE_CHECKING:
    from coherence_grpc.events.runs import Run

# Others use the machine too: how long an example takes says nothing.
UNTIMED = settings(deadline=None)
BASE = Cursor(1, 100, b"hash 100", 1, 7)
ALL = EventFilter()

# A ring is described by a word: a digit is a run of so many signals, u an update, c a status change, x an erased
# entry, s an entry of the server's own, p a policy.
words = st.text(st.sampled_from("135ucxsp"), max_size=30)


def hash_of(seq: int) -> bytes:
    return f"hash {seq}".encode().ljust(32)


def an_entry(seq: int) -> Entry:
    return Entry(TENANT, seq, EntryKind.STORED, an_item(), False, "p", NOON, hash_of(seq), False, "")


def a_policy(seq: int) -> Entry:
    return replace(an_entry(seq), kind=EntryKind.POLICY, item=None, payload=encode_policy(DEFAULT))


def a_run(before: Cursor, letter: str) -> Run:
    if letter in "uc":
        score = a_score(version=before.version + 1, as_of_seq=before.seq, status_changed=letter == "c")
        return Scored(before, after_version(before, score.version), score)
    if letter in "xs":
        return Skipped(before, after_entry(before, before.seq + 1, hash_of(before.seq + 1)), erased=letter == "x")
    if letter == "p":
        return PolicyChange(
            before, after_entry(before, before.seq + 1, hash_of(before.seq + 1)), a_policy(before.seq + 1)
        )
    return Signals(before, [an_entry(before.seq + 1 + n) for n in range(int(letter))])


def a_ring(word: str, *, capacity: int | None = None) -> Ring:
    ring = Ring(BASE, capacity=capacity)
    for letter in word:
        ring.extend([a_run(ring.tip, letter)])
    return ring


def cursors(ring: Ring) -> list[Cursor]:
    return [ring.cursor_at(index) for index in range(ring.start, ring.end + 1)]


@UNTIMED
@given(words)
def test_positions_never_go_back(word: str) -> None:
    places = cursors(a_ring(word))

    assert places == sorted(places, key=lambda c: (c.seq, c.version))
    assert all(b.seq >= a.seq and b.version >= a.version for a, b in pairwise(places))


@UNTIMED
@given(words)
def test_a_reader_finds_its_own_place_again(word: str) -> None:
    ring = a_ring(word)

    assert [ring.locate(cursor) for cursor in cursors(ring)] == list(range(ring.start, ring.end + 1))


@UNTIMED
@given(words, st.integers(90, 130), st.integers(0, 20))
def test_a_reader_joins_at_the_first_place_that_is_nowhere_behind_its_own(word: str, seq: int, version: int) -> None:
    ring = a_ring(word)

    joined = ring.locate(BASE._replace(seq=seq, version=version))

    fitting = [i for i, c in enumerate(cursors(ring), ring.start) if c.seq >= seq and c.version >= version]
    assert joined == (fitting[0] if fitting else None)


@UNTIMED
@given(words, st.integers(1, 7))
def test_cutting_on_and_on_passes_every_entry_and_status_change_once(word: str, limit: int) -> None:
    ring = a_ring(word)

    entries: list[int] = []
    changes: list[int] = []
    erased: list[int] = []
    last, index = 0, ring.start
    while index < ring.end:
        piece = ring.cut(index, ring.end, ALL, limit)
        assert piece.end > index
        assert piece.cursor == ring.cursor_at(piece.end)
        index = piece.end
        if isinstance(piece.frame, Gap):
            erased += range(piece.frame.from_seq, piece.frame.to_seq + 1)
        elif isinstance(piece.frame, Batch):
            assert len(piece.frame.events) <= limit
            entries += [e.cursor.seq for e in piece.frame.events if e.score is None]
            changes += [e.cursor.version for e in piece.frame.events if e.kind is EventKind.SCORE_STATUS_CHANGED]
            last = max([last, *(e.cursor.version for e in piece.frame.events if e.score is not None)])

    scores = [letter for letter in word if letter in "uc"]
    assert changes == [8 + at for at, letter in enumerate(scores) if letter == "c"]
    assert last == (7 + len(scores) if scores else 0)
    assert sorted([*entries, *erased]) == expected(word)
    assert entries == sorted(entries)


def expected(word: str) -> list[int]:
    seqs, seq = [], BASE.seq
    for letter in word:
        size = 0 if letter in "uc" else 1 if letter in "xsp" else int(letter)
        seqs += list(range(seq + 1, seq + size + 1)) if letter != "s" else []
        seq += size
    return seqs


@UNTIMED
@given(words)
def test_a_reader_of_scores_passes_everything_else(word: str) -> None:
    ring = a_ring(word)
    scores = EventFilter(kinds=frozenset({EventKind.SCORE_STATUS_CHANGED}))

    if ring.end:
        piece = ring.cut(0, ring.end, scores, 100)

        assert piece.end == ring.end
        assert not isinstance(piece.frame, Gap)


@UNTIMED
@given(words)
def test_a_full_ring_drops_its_oldest_and_keeps_its_places(word: str) -> None:
    whole, bounded = a_ring(word), a_ring(word, capacity=8)

    assert bounded.end == whole.end
    assert bounded.end - bounded.start <= 8 + 5
    assert cursors(bounded) == cursors(whole)[bounded.start :]


def test_an_update_gives_way_to_the_next_score_within_a_batch() -> None:
    ring = a_ring("1u1u1c1u1u1")

    frame = ring.cut(0, ring.end, ALL, 100).frame

    assert isinstance(frame, Batch)
    assert [e.cursor.version for e in frame.events if e.score is not None] == [10, 12]


def test_an_update_gives_way_only_to_what_passes_the_filter() -> None:
    ring = a_ring("uuc")
    updates = EventFilter(kinds=frozenset({EventKind.SCORE_UPDATED}))

    frame = ring.cut(0, ring.end, updates, 100).frame

    assert isinstance(frame, Batch)
    assert [e.cursor.version for e in frame.events] == [9]


def test_a_ring_that_forgets_keeps_its_end() -> None:
    ring = a_ring("53")
    end = ring.tip

    ring.forget()

    assert ring.start == ring.end == 8
    assert ring.locate(BASE) == 8
    assert ring.cursor_at(8) == end
