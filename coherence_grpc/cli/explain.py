"""`coherence explain`: what a score is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.instants import INSTANT, timestamp
from coherence_grpc.cli.output import NOTHING, Grid, counted, plain, say_json, screen, status_text
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.v1.score_pb2 import Contribution, ContributionGroup, ExplainScoreResponse

BAR_CELLS: Final = 16
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


@click.command()
@click.argument("tenant")
@click.option("--top", "top_n", type=click.IntRange(1, 100), default=10, show_default=True, help="How many rows.")
@click.option("--as-of", type=INSTANT, metavar="INSTANT", help="As of this past instant (RFC 3339).")
@json_option
@address_option
@asynchronous
async def explain(tenant: str, top_n: int, as_of: int | None, as_json: bool, address: str) -> None:
    """Show which signals, sources and types push a tenant's score below 1, the strongest first.

    A push is weight share × (value − 1); all pushes add up to score − 1.
    """
    from coherence.v1.score_pb2 import ExplainScoreRequest

    request = ExplainScoreRequest(tenant_id=tenant, top_n=top_n, as_of_time=None if as_of is None else timestamp(as_of))
    async with session(address) as client:
        explained = await client.score.ExplainScore(request)
    if as_json:
        say_json(_record(explained))
    else:
        _show(explained)


def _show(explained: ExplainScoreResponse) -> None:
    from coherence_grpc.cli.views import score_figure, second_of, status_word

    score = explained.score
    head = plain(f"{score.tenant_id}  {score_figure(score)}  ")
    head.append_text(status_text(status_word(score.status)))
    head.append(f"  {counted(score.signal_count, 'signal')} in the 24 h to {second_of(score.window_end_time)}")
    screen().print(head, soft_wrap=True)
    if explained.contributions:
        screen().print("", _contributions(explained.contributions), "", sep="\n")
    for title, groups in (("source", explained.sources), ("type", explained.types)):
        if groups:
            screen().print(_groups(title, groups), "", sep="\n")
    for exclusion in explained.excluded:
        if exclusion.signal_count:
            screen().print(plain(f"not counted: {exclusion.signal_count:,} {_reason(exclusion.reason)}"))
    screen().print(plain(explained.formula), soft_wrap=True)


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
    numbers = ("signals", "mean", "share", "push")
    grid = Grid(title, *numbers, "", right=numbers, whole=("",), optional=("", "mean", "share"))
    strongest = max(abs(group.push) for group in groups)
    for group in groups:
        grid.add(
            plain(group.name),
            f"{group.signal_count:,}",
            f"{group.mean:.6f}",
            f"{group.weight_share:.2%}",
            f"{group.push:+.6f}",
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
        ExclusionReason.EXCLUSION_REASON_NOT_YET_DUE: "dated ahead: they count when their time comes",
        ExclusionReason.EXCLUSION_REASON_AGED_OUT: "older than the window",
    }
    return words.get(ExclusionReason.ValueType(reason), "excluded")


def _record(explained: ExplainScoreResponse) -> dict[str, object]:
    from coherence.v1.score_pb2 import ExclusionReason
    from coherence_grpc.cli.views import score_record, stored_record

    return {
        "score": score_record(explained.score),
        "formula": explained.formula,
        "contributions": [
            {
                **stored_record(contribution.signal),
                "weight_share": contribution.weight_share,
                "push": contribution.push,
                "delta_if_removed": contribution.delta_if_removed
                if contribution.HasField("delta_if_removed")
                else None,
            }
            for contribution in explained.contributions
        ],
        "sources": [_group_record(group) for group in explained.sources],
        "types": [_group_record(group) for group in explained.types],
        "excluded": {
            ExclusionReason.Name(exclusion.reason).removeprefix("EXCLUSION_REASON_"): exclusion.signal_count
            for exclusion in explained.excluded
        },
    }


def _group_record(group: ContributionGroup) -> dict[str, object]:
    return {
        "name": group.name,
        "signal_count": group.signal_count,
        "weight_share": group.weight_share,
        "mean": group.mean,
        "push": group.push,
    }
