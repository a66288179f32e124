"""`coherence explain`: what a score is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.instants import INSTANT, micros, render_age, timestamp
from coherence_grpc.cli.output import NOTHING, Grid, counted, plain, say_json, screen, status_text
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from coherence.v1.score_pb2 import (
        Contribution,
        ContributionGroup,
        ExplainScoreResponse,
        NextMove,
        RuleAction,
        ScorePolicy,
    )

BAR_CELLS: Final = 16
SCALE_CELLS: Final = 60
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
MOVES: Final = {
    "EXPIRY": "{signals} too old for the window",
    "ACTIVATION": "{signals} dated ahead due",
    "STALE": "the newest signal is too old",
    "DWELL": "the new status has lasted long enough",
}


@click.command()
@click.argument("tenant")
@click.option("--top", "top_n", type=click.IntRange(1, 100), default=10, show_default=True, help="How many rows.")
@click.option("--at", "--as-of", "at", type=INSTANT, metavar="INSTANT", help="As of this past instant (RFC 3339).")
@click.option("--policy", "etag", default="", metavar="ETAG", help="With --at: under this version of the policy.")
@json_option
@address_option
@asynchronous
async def explain(tenant: str, top_n: int, at: int | None, etag: str, as_json: bool, address: str) -> None:
    """Show what pushes a tenant's score below 1, which rules acted, and when time will move it next.

    Signals, sources, types and provenance records, the strongest push first. A push is weight share × (value − 1); all
    pushes add up to score − 1.
    """
    from coherence.v1.score_pb2 import ExplainScoreRequest

    request = ExplainScoreRequest(
        tenant_id=tenant, top_n=top_n, as_of_time=None if at is None else timestamp(at), policy_etag=etag
    )
    async with session(address) as client:
        explained = await client.score.ExplainScore(request)
    if as_json:
        say_json(_record(explained))
    else:
        _show(explained)


def _show(explained: ExplainScoreResponse) -> None:
    _show_score(explained)
    if explained.contributions:
        screen().print("", _contributions(explained.contributions), "", sep="\n")
    groups = {"source": explained.sources, "type": explained.types, "provenance": explained.provenances}
    for title, members in groups.items():
        if members:
            screen().print(_groups(title, members), "", sep="\n")
    if explained.next_moves:
        screen().print(_moves(explained), "", sep="\n")
    for exclusion in explained.excluded:
        if exclusion.signal_count:
            screen().print(plain(f"not counted: {exclusion.signal_count:,} {_reason(exclusion.reason)}"))
    screen().print(plain(explained.formula), soft_wrap=True)


def _show_score(explained: ExplainScoreResponse) -> None:
    """The score, where it stands among the thresholds, and the rules that made it so."""
    from coherence_grpc.cli.policy_rules import span_shown
    from coherence_grpc.cli.views import score_figure, second_of, statuses_text

    score, policy = explained.score, explained.policy
    head = plain(f"{score.tenant_id}  {score_figure(score)}  ")
    head.append_text(statuses_text(score))
    window = f"in the {span_shown(policy.window)} to {second_of(score.window_end_time)}"
    head.append(f"  {counted(score.signal_count, 'signal')} {window}")
    if policy.seq:
        head.append(f"  by the rules {policy.etag}")
    screen().print(head, soft_wrap=True)
    screen().print(scale(score.score if score.HasField("score") else None, policy), soft_wrap=True)
    for action in explained.rules:
        screen().print(plain(f"rule {rule_word(action.rule)}: {_said(action)}"), soft_wrap=True)


def scale(score: float | None, policy: ScorePolicy) -> Text:
    """0 to 1 as a line in the colours of the statuses, with a mark at each threshold and one at the score."""
    from coherence_grpc.cli.output import STYLE

    bounds = (policy.warn_threshold, policy.healthy_threshold)
    line = plain("0 ")
    for cell in range(SCALE_CELLS):
        low, high = cell / SCALE_CELLS, (cell + 1) / SCALE_CELLS
        word = "HEALTHY" if low >= bounds[1] else "WARN" if low >= bounds[0] else "CRITICAL"
        mark = "┃" if any(low <= bound < high for bound in bounds) else "─"
        if score is not None and min(int(score * SCALE_CELLS), SCALE_CELLS - 1) == cell:
            mark = "●"
        line.append(mark, STYLE[word])
    return line.append(f" 1  WARN from {bounds[0]:g}, HEALTHY from {bounds[1]:g}")


def _said(action: RuleAction) -> str:
    # A veto's words begin with its type.
    repeated = not action.subject or action.detail.startswith(action.subject)
    return action.detail if repeated else f"{action.subject} {action.detail}"


def rule_word(rule: int) -> str:
    """The rule as its field in a policy is called."""
    from coherence.v1.score_pb2 import PolicyRule

    word = PolicyRule.Name(PolicyRule.ValueType(rule)).removeprefix("POLICY_RULE_").lower()
    return {"type_weight": "type_weights", "source_cap": "source_share_cap", "veto": "vetoes"}.get(word, word)


def _moves(explained: ExplainScoreResponse) -> Grid:
    from coherence.v1.score_pb2 import STATUS_UNSPECIFIED, MoveReason
    from coherence_grpc.cli.views import second_of, status_word

    now = micros(explained.score.window_end_time)
    grid = Grid(
        *("next", "at", "because", "score", "status", "held"),
        right=("score",),
        whole=("next", "at", "status", "held"),
        optional=("held", "at"),
    )
    for move in explained.next_moves:
        reason = MoveReason.Name(move.reason).removeprefix("MOVE_REASON_")
        because = MOVES[reason].format(signals=counted(move.signal_count, "signal"))
        held = move.held_status
        grid.add(
            f"in {render_age(micros(move.time) - now)}",
            second_of(move.time),
            because,
            f"{move.score:.6f}" if move.HasField("score") else NOTHING,
            status_text(status_word(move.status)),
            NOTHING if held == STATUS_UNSPECIFIED else status_text(status_word(held)),
        )
    return grid


def _contributions(contributions: Sequence[Contribution]) -> Grid:
    from coherence_grpc.cli.views import second_of

    numbers = ("value", "weight", "share", "push", "without it")
    grid = Grid(
        *("signal", "type", "ts", *numbers, ""),
        right=numbers,
        whole=("ts", ""),
        optional=("", "type", "without it", "ts", "weight", "value"),
    )
    strongest = max(abs(contribution.push) for contribution in contributions)
    for contribution in contributions:
        signal = contribution.signal.signal
        without = f"{contribution.delta_if_removed:+.6f}" if contribution.HasField("delta_if_removed") else NOTHING
        grid.add(
            plain(f"{signal.source}/{signal.signal_id}"),
            plain(signal.type),
            second_of(signal.ts),
            f"{signal.value:.4g}",
            f"{signal.weight:.4g}",
            f"{contribution.weight_share:.2%}",
            f"{contribution.push:+.6f}",
            without,
            bar(contribution.push, strongest),
        )
    return grid


def _groups(title: str, groups: Sequence[ContributionGroup]) -> Grid:
    numbers = ("signals", "mean", "share", "push", "without it")
    grid = Grid(title, *numbers, "", right=numbers, whole=("",), optional=("", "mean", "without it", "share"))
    strongest = max(abs(group.push) for group in groups)
    for group in groups:
        grid.add(
            plain(group.name).append(" capped" if group.capped else "", "magenta"),
            f"{group.signal_count:,}",
            f"{group.mean:.6f}",
            f"{group.weight_share:.2%}",
            f"{group.push:+.6f}",
            f"{group.delta_if_removed:+.6f}" if group.HasField("delta_if_removed") else NOTHING,
            bar(group.push, strongest),
        )
    return grid


def bar(push: float, strongest: float) -> str:
    """A bar as long as the push is strong, in eighths of a cell; the strongest fills BAR_CELLS."""
    eighths = round(abs(push) / strongest * BAR_CELLS * 8) if strongest else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _reason(reason: int) -> str:
    from coherence.v1.score_pb2 import ExclusionReason

    words = {
        ExclusionReason.EXCLUSION_REASON_MUTED: "muted (weight 0)",
        ExclusionReason.EXCLUSION_REASON_TYPE_MUTED: "of types that the policy mutes",
        ExclusionReason.EXCLUSION_REASON_NOT_YET_DUE: "dated ahead: they count when their time comes",
        ExclusionReason.EXCLUSION_REASON_AGED_OUT: "older than the window",
    }
    return words.get(ExclusionReason.ValueType(reason), "excluded")


def _record(explained: ExplainScoreResponse) -> dict[str, object]:
    from coherence.v1.score_pb2 import ExclusionReason
    from coherence_grpc.cli.policies import policy_record
    from coherence_grpc.cli.views import score_record, stored_record

    return {
        "score": score_record(explained.score),
        "formula": explained.formula,
        "policy": policy_record(explained.policy),
        "rules": [_rule_record(action) for action in explained.rules],
        "contributions": [
            {
                **stored_record(contribution.signal),
                "weight_share": contribution.weight_share,
                "push": contribution.push,
                "delta_if_removed": _delta_of(contribution),
            }
            for contribution in explained.contributions
        ],
        "sources": [_group_record(group) for group in explained.sources],
        "types": [_group_record(group) for group in explained.types],
        "provenances": [_group_record(group) for group in explained.provenances],
        "excluded": {
            ExclusionReason.Name(exclusion.reason).removeprefix("EXCLUSION_REASON_"): exclusion.signal_count
            for exclusion in explained.excluded
        },
        "next_moves": [_move_record(move) for move in explained.next_moves],
        "revision": explained.revision.token,
    }


def _rule_record(action: RuleAction) -> dict[str, object]:
    from coherence.v1.score_pb2 import PolicyRule

    rule = PolicyRule.Name(action.rule).removeprefix("POLICY_RULE_")
    return {"rule": rule, "subject": action.subject or None, "detail": action.detail}


def _group_record(group: ContributionGroup) -> dict[str, object]:
    return {
        "name": group.name,
        "signal_count": group.signal_count,
        "weight_share": group.weight_share,
        "mean": group.mean,
        "push": group.push,
        "delta_if_removed": _delta_of(group),
        "capped": group.capped,
    }


def _delta_of(part: Contribution | ContributionGroup) -> float | None:
    return part.delta_if_removed if part.HasField("delta_if_removed") else None


def _move_record(move: NextMove) -> dict[str, object]:
    from coherence.v1.score_pb2 import STATUS_UNSPECIFIED, MoveReason
    from coherence_grpc.cli.views import instant_of, status_word

    return {
        "time": instant_of(move.time),
        "reason": MoveReason.Name(move.reason).removeprefix("MOVE_REASON_"),
        "signal_count": move.signal_count,
        "score": move.score if move.HasField("score") else None,
        "status": status_word(move.status),
        "held_status": None if move.held_status == STATUS_UNSPECIFIED else status_word(move.held_status),
    }
