"""`coherence top`: the live portfolio."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from coherence_grpc.cli.output import STYLE, counted, on_terminal, plain, say_json, screen
from coherence_grpc.cli.scores import portfolio
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group
    from rich.text import Text

    from coherence.v1.score_pb2 import Score, Status
    from coherence_grpc.client import Client

WORDS: Final = tuple(STYLE)
# What stands around the rows: two lines above the table, two of its head, one below.
FRAME_LINES: Final = 6
ORDERS: Final = {
    "worst": "SCORE_ORDER_WORST_FIRST",
    "best": "SCORE_ORDER_BEST_FIRST",
    "tenant": "SCORE_ORDER_TENANT_ID",
    "changed": "SCORE_ORDER_LAST_CHANGED",
}
_WORD: Final = click.Choice(WORDS, case_sensitive=False)


class Wanted(NamedTuple):
    """Which tenants are shown, and in what order."""

    statuses: Sequence[str]
    held: Sequence[str]
    prefix: str
    lowest: float | None
    highest: float | None
    order: str


@click.command()
@click.option("--status", "statuses", multiple=True, type=_WORD, help="Only these statuses.")
@click.option("--held", multiple=True, type=_WORD, help="Only these held statuses.")
@click.option("--prefix", default="", help="Only tenants whose id begins so.")
@click.option("--min", "lowest", type=click.FloatRange(0, 1), help="Only scores from here.")
@click.option("--max", "highest", type=click.FloatRange(0, 1), help="Only scores up to here.")
@click.option("--order", type=click.Choice(list(ORDERS)), default="worst", show_default=True, help="What comes first.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many rows.  [default: what fits]")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Print once, also on a terminal.")
@json_option
@address_option
@asynchronous
async def top(
    limit: int | None,
    interval: float,
    once: bool,
    as_json: bool,
    address: str,
    **narrow: Any,  # noqa: ANN401 - options
) -> None:
    """Show the portfolio of tenants, worst first, and keep it up to date.

    An arrow says where a score is going: ▲ up or ▼ down by at least 0.01 within an hour, ▬ neither. Without a terminal
    it prints once.
    """
    wanted = Wanted(**narrow)
    async with session(address) as client:
        if as_json:
            await _print_json(client, wanted, limit)
        elif once or not on_terminal():
            screen().print(_view(await _scores(client, wanted), limit))
        else:
            await _follow(client, wanted, limit, interval)


async def _scores(client: Client, wanted: Wanted) -> list[Score]:
    from coherence.v1.score_pb2 import ScoreFilter

    narrow = ScoreFilter(
        statuses=_numbers(wanted.statuses),
        held_statuses=_numbers(wanted.held),
        tenant_id_prefix=wanted.prefix,
        min_score=wanted.lowest,
        max_score=wanted.highest,
    )
    return [score async for score in portfolio(client, narrow, ORDERS[wanted.order])]


def _numbers(words: Sequence[str]) -> list[Status.ValueType]:
    from coherence.v1.score_pb2 import Status

    return [Status.Value(f"STATUS_{word.upper()}") for word in words]


async def _print_json(client: Client, wanted: Wanted, limit: int | None) -> None:
    from coherence_grpc.cli.views import score_record

    for score in islice(await _scores(client, wanted), limit):
        say_json(score_record(score))


async def _follow(client: Client, wanted: Wanted, limit: int | None, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live

    view = _view(await _scores(client, wanted), limit)
    with Live(console=screen(), auto_refresh=False, screen=True) as live:
        while True:
            rows = limit or max(1, screen().height - FRAME_LINES)
            scores = await _scores_if_there(client, wanted)
            if scores is None:
                # What was true a moment ago, and that it is no more than that.
                live.update(Group(plain(f"no answer from {client.address}; trying again"), view), refresh=True)
            else:
                view = _view(scores, rows)
                live.update(view, refresh=True)
            await asyncio.sleep(interval)


async def _scores_if_there(client: Client, wanted: Wanted) -> list[Score] | None:
    """The scores; None while the server can't answer."""
    import grpc.aio

    from coherence_grpc.client import may_pass, refusal_of

    try:
        return await _scores(client, wanted)
    except grpc.aio.AioRpcError as error:
        if may_pass(refusal_of(error)):
            return None
        raise


def _view(scores: Sequence[Score], rows: int | None) -> Group:
    from rich.console import Group

    from coherence_grpc.cli.views import scores_table

    shown = scores[:rows]
    rest = [plain(f"… and {len(scores) - len(shown):,} more")] if len(shown) < len(scores) else []
    if not scores:
        return Group(plain("no tenant to show: none matches, or none has a score yet (see `coherence publish`)"))
    return Group(_counts(scores), plain(""), scores_table(shown), *rest)


def _counts(scores: Sequence[Score]) -> Text:
    from coherence_grpc.cli.views import second_of, status_word

    counts = Counter(status_word(score.status) for score in scores)
    newest = max(scores, key=lambda score: score.window_end_time.ToNanoseconds())
    line = plain(f"{counted(len(scores), 'tenant')}, last evaluated {second_of(newest.window_end_time)}")
    for word in WORDS:
        line.append(f"  {word} {counts[word]:,}", STYLE[word])
    return line
