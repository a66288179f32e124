"""`coherence recompute`: a score computed anew."""

from __future__ import annotations

import click

from coherence_grpc.cli.output import plain, say_json, screen
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session


@click.command()
@click.argument("tenant")
@click.option("--request-id", default="", metavar="TEXT", help="Sent again unchanged, it gets the first reply.")
@json_option
@address_option
@asynchronous
async def recompute(tenant: str, request_id: str, as_json: bool, address: str) -> None:
    """Have a tenant's score computed anew from its stored signals, and show it.

    A score follows its signals by itself: this is for whoever doubts it. It is an entry of the tenant's log.
    """
    from coherence.v1.score_pb2 import Consistency, GetScoreRequest, RecomputeScoreRequest
    from coherence_grpc.cli.views import score_figure, score_record, statuses_text

    async with session(address) as client:
        done = await client.score.RecomputeScore(RecomputeScoreRequest(tenant_id=tenant, request_id=request_id))
        fresh = Consistency(at_least_as_fresh=done.revision)
        score = (await client.score.GetScore(GetScoreRequest(tenant_id=tenant, consistency=fresh))).score
    if as_json:
        say_json({"seq": done.seq, "provenance_id": done.provenance_id, "score": score_record(score)})
        return
    shown = plain(f"{tenant}  {score_figure(score)}  ").append_text(statuses_text(score))
    screen().print(shown.append(f"  as of entry {score.as_of_seq:,}; the recomputation is entry {done.seq:,}"))
