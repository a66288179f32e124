"""The guarantees of event streams, by name, checked on what a subscriber really saw.

A history is what arrived, over all of a subscriber's connections, in order. Each guarantee is a function that fails
with the first breach; `check` runs them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from coherence.v1 import events_pb2
from coherence_grpc.events import Batch, EventKind, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from coherence_grpc.events import Event, Frame


class SawSignal(NamedTuple):
    seq: int


class SawScore(NamedTuple):
    version: int
    as_of_seq: int
    changed: bool


class SawGap(NamedTuple):
    first: int
    last: int


Seen: TypeAlias = SawSignal | SawScore | SawGap


@dataclass(frozen=True, slots=True)
class Truth:
    """What happened: entries `after` + 1 to `upto`, of which `silent` are no signals, and the scores published."""

    upto: int
    status_changes: Collection[int] = ()
    latest_version: int = 0
    after: int = 0
    silent: Collection[int] = ()


def seen_event(event: Event) -> Seen:
    if event.signal is not None:
        return SawSignal(event.signal.seq)
    assert event.score is not None
    return SawScore(event.score.version, event.score.as_of_seq, event.kind is EventKind.SCORE_STATUS_CHANGED)


def seen(frames: Iterable[Frame]) -> list[Seen]:
    """The history in frames of the hub."""
    history: list[Seen] = []
    for frame in frames:
        if isinstance(frame, Batch):
            history.extend(seen_event(event) for event in frame.events)
        elif isinstance(frame, Gap):
            history.append(SawGap(frame.from_seq, frame.to_seq))
    return history


def seen_on_the_wire(responses: Iterable[events_pb2.SubscribeResponse]) -> list[Seen]:
    """The history in SubscribeResponse messages."""
    history: list[Seen] = []
    for response in responses:
        history.extend(map(_seen_message, response.batch.events))
        if response.HasField("gap"):
            history.append(SawGap(response.gap.from_seq, response.gap.to_seq))
    return history


def _seen_message(event: events_pb2.Event) -> Seen:
    if event.HasField("signal"):
        return SawSignal(event.signal.seq)
    changed = event.kind == events_pb2.EVENT_KIND_SCORE_STATUS_CHANGED
    return SawScore(event.score.version, event.score.as_of_seq, changed)


def ordered(history: Sequence[Seen], _truth: Truth) -> None:
    """Signals and gaps rise in seq, scores in version."""
    seq = version = 0
    for saw in history:
        if isinstance(saw, SawScore):
            assert saw.version >= version, f"score {saw.version} after score {version}"
            version = saw.version
            continue
        first, last = (saw.seq, saw.seq) if isinstance(saw, SawSignal) else saw
        assert first >= seq, f"entry {first} after entry {seq}"
        assert first <= last
        seq = last


def unique(history: Sequence[Seen], _truth: Truth) -> None:
    """Nothing arrives twice."""
    assert len(history) == len(set(history)), f"twice: {_repeated(history)}"


def gapless(history: Sequence[Seen], truth: Truth) -> None:
    """Every entry arrived, was named in a gap, or is no signal."""
    arrived: set[int] = set(truth.silent)
    for saw in history:
        if isinstance(saw, SawSignal):
            arrived.add(saw.seq)
        elif isinstance(saw, SawGap):
            arrived.update(range(saw.first, saw.last + 1))
    missing = set(range(truth.after + 1, truth.upto + 1)) - arrived
    assert not missing, f"{len(missing)} entries are missing, first {min(missing)}"


def status_changes_complete(history: Sequence[Seen], truth: Truth) -> None:
    """Every status change arrived, as such."""
    arrived = {saw.version for saw in history if isinstance(saw, SawScore) and saw.changed}
    assert arrived == set(truth.status_changes)


def scores_follow_their_entries(history: Sequence[Seen], truth: Truth) -> None:
    """A score arrives after the entries that it covers."""
    silent, reached = set(truth.silent), truth.after
    for saw in history:
        if isinstance(saw, SawScore):
            while reached + 1 in silent:
                reached += 1
            assert saw.as_of_seq <= reached, f"score {saw.version} covers {saw.as_of_seq}, {reached} had arrived"
        else:
            reached = saw.seq if isinstance(saw, SawSignal) else saw.last


def latest_score_arrives(history: Sequence[Seen], truth: Truth) -> None:
    """However many updates were left out, the newest score arrived."""
    newest = max((saw.version for saw in history if isinstance(saw, SawScore)), default=0)
    assert newest == truth.latest_version


Guarantee: TypeAlias = "Callable[[Sequence[Seen], Truth], None]"

GUARANTEES: tuple[Guarantee, ...] = (
    ordered,
    unique,
    gapless,
    status_changes_complete,
    scores_follow_their_entries,
    latest_score_arrives,
)


def check(history: Sequence[Seen], truth: Truth) -> None:
    """All guarantees hold."""
    for guarantee in GUARANTEES:
        guarantee(history, truth)


def _repeated(history: Sequence[Seen]) -> list[Seen]:
    return [saw for saw, times in Counter(history).items() if times > 1][:5]
