"""`coherence score`: the scores of named tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import REFUSED, next_step_of, refusal_record, said
from coherence_grpc.cli.instants import INSTANT, render, timestamp
from coherence_grpc.cli.output import notes, plain, say_json, screen
from coherence_grpc.cli.session import address_option, asynchronous, json_option, refusal_in, session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence.v1.score_pb2 import BatchScore, Score, ScoreFilter
    from coherence_grpc.client import Client

TENANTS_A_CALL: Final = 100
PAGE_SIZE: Final = 1_000


@click.command()
@click.argument("tenants", nargs=-1, required=True, metavar="TENANT...")
@click.option("--as-of", type=INSTANT, metavar="INSTANT", help="Recomputed as of this past instant (RFC 3339).")
@json_option
@address_option
@asynchronous
async def score(tenants: tuple[str, ...], as_of: int | None, as_json: bool, address: str) -> int:
    """Show the score of tenants, now or as of a past instant.

    A score is the weighted mean of the signals of the 24 hours before the instant. UNKNOWN means that there are none,
    and then there is no score.
    """
    async with session(address) as client:
        results = await scores_of(client, tenants, as_of=as_of)
    if as_json:
        _print_json(results)
    else:
        _print_table(results, as_of)
    return REFUSED if any(result.HasField("error") for result in results) else 0


async def scores_of(client: Client, tenants: Sequence[str], *, as_of: int | None = None) -> list[BatchScore]:
    """One result a tenant, in order, in calls of a hundred."""
    from coherence.v1.score_pb2 import BatchGetScoresRequest

    results: list[BatchScore] = []
    for first in range(0, len(tenants), TENANTS_A_CALL):
        request = BatchGetScoresRequest(
            tenant_ids=tenants[first : first + TENANTS_A_CALL],
            as_of_time=None if as_of is None else timestamp(as_of),
        )
        results += (await client.score.BatchGetScores(request)).results
    return results


async def portfolio(
    client: Client, narrow: ScoreFilter | None = None, order: str = "SCORE_ORDER_WORST_FIRST"
) -> AsyncIterator[Score]:
    """The published scores of every tenant that the filter leaves, worst first unless another order is named."""
    from coherence.v1.score_pb2 import ListScoresRequest, ScoreOrder

    token, by = "", ScoreOrder.Value(order)
    while True:
        request = ListScoresRequest(filter=narrow, order=by, page_size=PAGE_SIZE, page_token=token)
        page = await client.score.ListScores(request)
        for score in page.scores:
            yield score
        token = page.next_page_token
        if not token:
            return


def _print_json(results: Sequence[BatchScore]) -> None:
    from coherence_grpc.cli.views import score_record

    for result in results:
        if result.HasField("error"):
            say_json({"tenant_id": result.tenant_id, "error": refusal_record(refusal_in(result.error))})
        else:
            say_json(score_record(result.score))


def _print_table(results: Sequence[BatchScore], as_of: int | None) -> None:
    from coherence_grpc.cli.views import scores_table

    answered = [result.score for result in results if not result.HasField("error")]
    if answered:
        screen().print(scores_table(answered, title=None if as_of is None else f"as of {render(as_of)}"))
    for result in results:
        if result.HasField("error"):
            refusal = refusal_in(result.error)
            step = next_step_of(refusal)
            line = f"{result.tenant_id}: {refusal.reason or refusal.code}: {said(refusal)}"
            notes().print(plain(f"error: {line}{f' (next: {step})' if step else ''}"), soft_wrap=True)
