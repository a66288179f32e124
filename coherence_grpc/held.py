"""The status that is shown and alerted on: hysteresis and minimum dwell on top of the status that a score has.

Between colours the held status changes only when the score is beyond the threshold by the policy's hysteresis, and
only to what has lasted for the policy's dwell: a score at least that far beyond, all the time. To UNKNOWN and from it
the change is at once: no colour is shown without data, and none is held back when data come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.model import Held, Status
from coherence_grpc.rules import policy_status, severity, worst

if TYPE_CHECKING:
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.rules import Verdict

_COLOURS: Final = (Status.HEALTHY, Status.WARN, Status.CRITICAL)


def follow(held: Held | None, policy: ScorePolicy, verdict: Verdict, instant: int) -> Held:
    """What is held from `instant` on, when the verdict is this one from then on; None: nothing was held before."""
    if held is None:
        return Held(verdict.status, instant)
    held = lasted(held, policy, instant)
    target = _target(held.status, policy, verdict)
    if target is held.status:
        return Held(held.status, held.since)
    if not policy.dwell_us or Status.UNKNOWN in {target, held.status}:
        return Held(target, instant)
    known = dict(held.pending)
    pending = ((status, known.get(status, instant)) for status in _beyond(held.status, target))
    # A policy that asks for less than the one before may have been satisfied already.
    return lasted(Held(held.status, held.since, tuple(pending)), policy, instant)


def lasted(held: Held, policy: ScorePolicy, instant: int) -> Held:
    """What is held at the instant when nothing but time has passed: pending statuses that lasted take effect."""
    while held.pending:
        (status, since), *rest = held.pending
        due = since + policy.dwell_us
        if due > instant:
            break
        held = Held(status, due, tuple(rest))
    return held


def dwell_ends(held: Held | None, policy: ScorePolicy) -> int | None:
    """The instant at which time alone changes what is held; None when nothing is pending."""
    return held.pending[0][1] + policy.dwell_us if held is not None and held.pending else None


def target_of(held: Held | None, policy: ScorePolicy, verdict: Verdict) -> Status:
    """What would be held if the verdict lasted."""
    return verdict.status if held is None else _target(held.status, policy, verdict)


def _target(held: Status, policy: ScorePolicy, verdict: Verdict) -> Status:
    if verdict.score_ppm is None or held is Status.UNKNOWN:
        return verdict.status
    down = worst(policy_status(policy, verdict.score_ppm, -policy.hysteresis_ppm), verdict.cap)
    if severity(down) > severity(held):
        return down
    up = worst(policy_status(policy, verdict.score_ppm, policy.hysteresis_ppm), verdict.cap)
    return up if severity(up) < severity(held) else held


def _beyond(held: Status, target: Status) -> tuple[Status, ...]:
    """The colours from the one after `held` to `target`, in that order."""
    first, last = severity(held), severity(target)
    if first < last:
        return _COLOURS[first + 1 : last + 1]
    return tuple(reversed(_COLOURS[last:first]))
