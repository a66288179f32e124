"""`coherence watch`: tenants as they change, over restarts and lost connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.instants import parse_instant, timestamp
from coherence_grpc.cli.output import counted, notes, plain, say_json, screen
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from rich.text import Text

    from coherence.v1.events_pb2 import Event, Start
    from coherence.v1.score_pb2 import Score, WatchScoreResponse
    from coherence_grpc.client import Client

MAX_TENANTS: Final = 100


@click.command()
@click.argument("tenants", nargs=-1, required=True, metavar="TENANT...")
@click.option("--events", is_flag=True, help="Show signals and policy changes too, in the order of the log.")
@click.option(
    "--from", "from_", metavar="PLACE", help="With --events: earliest, latest or an instant.  [default: latest]"
)
@click.option("--after", metavar="CURSOR", help="With --events and one tenant: go on after this cursor.")
@click.option("--status-changes", is_flag=True, help="Only the scores whose status differs from the one before.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N lines.")
@json_option
@address_option
@asynchronous
async def watch(
    tenants: tuple[str, ...],
    events: bool,
    from_: str | None,
    after: str | None,
    status_changes: bool,
    count: int | None,
    as_json: bool,
    address: str,
) -> None:
    """Follow tenants live, until Ctrl-C: the current scores first, then every update.

    A lost connection is picked up by itself. With --events nothing is missed in between: it goes on with the cursor of
    the last event shown.
    """
    if len(set(tenants)) != len(tenants) or len(tenants) > MAX_TENANTS:
        message = f"name each tenant once, and at most {MAX_TENANTS}"
        raise Failure(message, exit_code=USAGE)
    placed = bool(from_ or after)
    if (placed and not events) or (after and (from_ or len(tenants) > 1)):
        message = "--from and --after go with --events; --after with one tenant and without --from"
        raise Failure(message, "see `coherence watch --help`", exit_code=USAGE)
    start = _start(from_, after) if events else None
    async with session(address) as client:
        if start is not None:
            await _events(client, tenants, start, status_changes=status_changes, count=count, as_json=as_json)
        else:
            await _scores(client, tenants, status_changes=status_changes, count=count, as_json=as_json)


def _start(from_: str | None, after: str | None) -> Start:
    from coherence.v1.events_pb2 import POSITION_EARLIEST, POSITION_LATEST, Start

    if after is not None:
        return Start(cursor=after)
    named = {None: POSITION_LATEST, "latest": POSITION_LATEST, "earliest": POSITION_EARLIEST}
    if from_ in named:
        return Start(position=named[from_])
    try:
        return Start(time=timestamp(parse_instant(str(from_))))
    except ValueError as error:
        message = f"--from: {error}"
        raise Failure(message, "or write earliest or latest", exit_code=USAGE) from None


async def _scores(
    client: Client, tenants: tuple[str, ...], *, status_changes: bool, count: int | None, as_json: bool
) -> None:
    from coherence_grpc.cli.following import follow_scores
    from coherence_grpc.cli.views import score_record

    async for update in follow_scores(client, tenants, status_changes_only=status_changes, lost=_lost):
        if as_json:
            say_json({**score_record(update.score), "initial": update.initial, "status_changed": update.status_changed})
        else:
            screen().print(_score_line(update.score, update), soft_wrap=True)
        count = count and count - 1
        if count == 0:
            return


async def _events(
    client: Client, tenants: tuple[str, ...], start: Start, *, status_changes: bool, count: int | None, as_json: bool
) -> None:
    from coherence_grpc.cli.following import follow_events

    async for event in follow_events(client, tenants, start, status_changes_only=status_changes, lost=_lost):
        if as_json:
            say_json(_event_record(event))
        else:
            screen().print(_event_line(event), soft_wrap=True)
        count = count and count - 1
        if count == 0:
            return


def _lost(remark: str) -> None:
    notes().print(plain(remark), soft_wrap=True)


def _score_line(score: Score, update: WatchScoreResponse | None = None) -> Text:
    from coherence_grpc.cli.views import score_figure, second_of, statuses_text

    line = plain(f"{second_of(score.window_end_time)}  {score.tenant_id}  {score_figure(score)}  ")
    line.append_text(statuses_text(score))
    line.append(f"  {counted(score.signal_count, 'signal')}")
    if update is not None and update.status_changed:
        line.append("  status changed", "bold")
    return line


def _event_line(event: Event) -> Text:
    from coherence.v1.events_pb2 import EVENT_KIND_SCORE_STATUS_CHANGED
    from coherence_grpc.cli.views import second_of

    if event.HasField("signal"):
        stored, signal = event.signal, event.signal.signal
        return plain(
            f"{second_of(event.recorded_time)}  {event.tenant_id}  #{stored.seq:,}  {signal.source}/{signal.signal_id}"
            f"  {signal.type}  value {signal.value:.4g}  weight {signal.weight:.4g}  of {second_of(signal.ts)}"
            f"{_replaced(event)}{'  (backfill)' if stored.backfill else ''}"
        )
    if event.HasField("policy"):
        line = plain(f"{second_of(event.recorded_time)}  {event.tenant_id}  #{event.policy.seq:,}  ")
        line.append("policy changed", "bold")
        return line.append(f"  {event.policy.etag}")
    line = _score_line(event.score)
    if event.kind == EVENT_KIND_SCORE_STATUS_CHANGED:
        line.append("  status changed", "bold")
    return line


def _replaced(event: Event) -> str:
    """What a signal took the place of; '' when it took nothing's."""
    from coherence.v1.events_pb2 import EVENT_KIND_SIGNAL_REPLACED

    if event.kind != EVENT_KIND_SIGNAL_REPLACED:
        return ""
    if not event.HasField("superseded"):
        return "  (replaced)"
    old, new = event.superseded, event.signal.signal
    was = [f"value {old.value:.4g}", f"weight {old.weight:.4g}"]
    return f"  (was {'' if old.type == new.type else f'{old.type}  '}{'  '.join(was)})"


def _event_record(event: Event) -> dict[str, object]:
    from coherence.v1.events_pb2 import EventKind
    from coherence_grpc.cli.policies import policy_record
    from coherence_grpc.cli.views import instant_of, score_record, signal_record, stored_record

    return {
        "kind": EventKind.Name(event.kind).removeprefix("EVENT_KIND_"),
        "tenant_id": event.tenant_id,
        "cursor": event.cursor,
        "occurred_time": instant_of(event.occurred_time),
        "recorded_time": instant_of(event.recorded_time),
        **({"signal": stored_record(event.signal)} if event.HasField("signal") else {}),
        **({"superseded": signal_record(event.superseded)} if event.HasField("superseded") else {}),
        **({"score": score_record(event.score)} if event.HasField("score") else {}),
        **({"policy": policy_record(event.policy)} if event.HasField("policy") else {}),
    }
