"""A tenant's score over time, recomputed: what it was at each instant at which it changed, in one sorted sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from coherence_grpc.held import dwell_ends, follow
from coherence_grpc.materialize.ruled import RuledWindow
from coherence_grpc.materialize.window import Window
from coherence_grpc.rules import stale_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coherence_grpc.model import Held
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict

AnyWindow: TypeAlias = Window | RuledWindow


class Swept(NamedTuple):
    """What holds from `instant` until the next one: the verdict, and what is held."""

    instant: int
    verdict: Verdict
    held: Held


def window_over(columns: WindowColumns, policy: ScorePolicy, now: int) -> AnyWindow:
    """The window over stored columns as of `now`; they must carry groups unless the policy is plain."""
    return Window.of(columns, now, policy) if policy.plain else RuledWindow.of(columns, policy, now)


def next_change(window: AnyWindow, held: Held | None) -> int | None:
    """The first instant after the window's `now` at which time alone may change the verdict or what is held."""
    policy = window.policy
    instants = (
        window.valid_until,
        stale_at(policy, window.data_time, window.now),
        dwell_ends(held, policy),
    )
    return min((instant for instant in instants if instant is not None), default=None)


def sweep(
    columns: WindowColumns, policy: ScorePolicy, *, start: int, end: int, held: Held | None = None
) -> Iterator[Swept]:
    """The score at `start` and at every instant up to `end` at which time changes it, each signal counting from its ts.

    `columns` must reach from `start` − window to `end`. `held` is what was held before `start`; None: nothing.
    """
    window = window_over(columns, policy, start)
    instant: int | None = start
    while instant is not None and instant <= end:
        window.advance(instant)
        verdict = window.verdict()
        held = follow(held, policy, verdict, instant)
        yield Swept(instant, verdict, held)
        instant = next_change(window, held)
