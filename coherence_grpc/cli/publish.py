"""`coherence publish`: one signal by options, or some from JSON lines."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import click

from coherence_grpc.cli.failure import REFUSED, USAGE, Failure, refusal_record, said
from coherence_grpc.cli.instants import INSTANT, timestamp
from coherence_grpc.cli.output import notes, plain, say_json, screen
from coherence_grpc.cli.sending import Sending, durability, sending_options
from coherence_grpc.cli.session import address_option, asynchronous, json_option, refusal_in, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.v1.ingest_pb2 import PublishResult, PublishSignalResponse, PublishSignalsResponse
    from coherence_grpc.cli.importing.rows import Reject, Row
    from coherence_grpc.client import Client, Refusal

MAX_LINES: Final = 10_000
REQUIRED: Final = ("tenant", "source", "type", "value")
# \b keeps click from filling the lines.
EXAMPLES: Final = """\b
coherence publish --tenant acme --source ci --type build --value 0.9
echo '{"source":"ci","type":"build","value":0.9}' | coherence publish --tenant acme -
"""
DRY: Final = " (dry run: nothing was stored)"


@click.command(epilog=EXAMPLES)
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE|-]")
@click.option("--tenant", metavar="ID", help="The tenant; with FILE, of the lines that name none.")
@click.option("--source", metavar="TEXT", help="Who emitted it.")
@click.option("--type", "type", metavar="TEXT", help="What kind of observation it is.")
@click.option("--value", type=float, metavar="NUMBER", help="0, incoherent, to 1, coherent.")
@click.option("--weight", type=float, metavar="NUMBER", help="0 to 1000; 0 stores it muted.  [default: 1]")
@click.option("--id", "signal_id", metavar="TEXT", help="Its id.  [default: the server makes one]")
@click.option("--ts", type=INSTANT, metavar="INSTANT", help="When it happened (RFC 3339).  [default: now]")
@click.option("--request-id", default="", metavar="TEXT", help="Sent again unchanged, nothing is stored twice.")
@sending_options
@click.option("--scored", is_flag=True, help="Answer when the score has seen them, and show it.")
@json_option
@address_option
@asynchronous
async def publish(
    file: IO[bytes] | None,
    request_id: str,
    sending: Sending,
    scored: bool,
    as_json: bool,
    address: str,
    **fields: Any,  # noqa: ANN401 - the signal's options
) -> int:
    """Store one signal by options, or some from JSON lines (a file, or - for stdin).

    A line is a JSON object with the fields tenant_id, source, signal_id, type, value, weight and ts. For more than a
    few thousand use `coherence import`, which can be resumed.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if file is None:
        return await _publish_one(address, given, request_id, sending, scored=scored, as_json=as_json)
    if given.keys() - {"tenant"}:
        option = min(given.keys() - {"tenant"})
        message = f"--{'id' if option == 'signal_id' else option} describes one signal, but FILE was named"
        raise Failure(message, "leave one of the two out", exit_code=USAGE)
    results, scores = await _publish_lines(address, file, given.get("tenant", ""), request_id, sending, scored=scored)
    return _show_lines(results, scores, sending, as_json=as_json)


async def _publish_one(
    address: str, given: dict[str, Any], request_id: str, sending: Sending, *, scored: bool, as_json: bool
) -> int:
    from coherence.v1.ingest_pb2 import PublishSignalRequest
    from coherence.v1.signal_pb2 import Signal
    from coherence_grpc.cli.records import encodable

    missing = [f"--{name}" for name in REQUIRED if name not in given]
    if missing:
        message = f"{', '.join(missing)} missing"
        raise Failure(message, "see `coherence publish --help`", exit_code=USAGE)
    try:
        texts = {name: encodable(name, given.get(name, "")) for name in ("tenant", "source", "signal_id", "type")}
        request_id = encodable("request_id", request_id)
    except ValueError as error:
        raise Failure(str(error), "correct the option", exit_code=USAGE) from None
    signal = Signal(
        tenant_id=texts["tenant"],
        source=texts["source"],
        signal_id=texts["signal_id"],
        type=texts["type"],
        value=given["value"],
        weight=given.get("weight"),
        ts=timestamp(given["ts"]) if "ts" in given else None,
    )
    request = PublishSignalRequest(
        signal=signal,
        request_id=request_id,
        tags=sending.tags(),
        backfill=sending.backfill,
        validate_only=sending.dry_run,
        on_conflict=sending.on_conflict(),
        durability=durability(scored=scored),
    )
    async with session(address) as client:
        response = await client.ingest.PublishSignal(request)
    _show_one(response, sending, as_json=as_json)
    return 0


def _show_one(response: PublishSignalResponse, sending: Sending, *, as_json: bool) -> None:
    from coherence_grpc.cli.views import instant_of, key_record, outcome_word

    if as_json:
        say_json(
            {
                "outcome": outcome_word(response.outcome),
                "seq": response.seq,
                "provenance_id": response.provenance_id,
                "key": key_record(response.key),
                "revision": response.revision.token,
                **_score_record(response),
            }
        )
        return
    key = response.key
    where = f"{key.tenant_id} #{response.seq}" if response.seq else key.tenant_id
    screen().print(
        plain(f"{outcome_word(response.outcome)}  {where}  {key.source}/{key.signal_id}  {instant_of(key.ts)}"),
        plain(DRY if sending.dry_run else f"  provenance {response.provenance_id}"),
        sep="",
        soft_wrap=True,
    )
    _show_score(response)


def _score_record(response: PublishSignalResponse | PublishSignalsResponse) -> dict[str, object]:
    """What was waited for; nothing where it was not."""
    from coherence_grpc.cli.views import score_record

    if response.HasField("score"):
        return {"score": score_record(response.score), "score_pending": False}
    return {"score": None, "score_pending": True} if response.score_pending else {}


def _show_score(response: PublishSignalResponse | PublishSignalsResponse) -> None:
    from coherence_grpc.cli.views import score_figure, statuses_text

    if response.score_pending:
        screen().print(plain("the score has not seen it yet: ask `coherence score`"))
    elif response.HasField("score"):
        score = response.score
        words = f"{score.tenant_id}  {score_figure(score)}  "
        count = f"  {score.signal_count:,} signal{'s' if score.signal_count != 1 else ''}"
        screen().print(plain(words), statuses_text(score), plain(count), sep="")


class _Line(NamedTuple):
    """What became of a line: an outcome, a refusal by the server, or a reject of our own."""

    line: int
    result: PublishResult | None = None
    refusal: Refusal | None = None
    reject: Reject | None = None


async def _publish_lines(
    address: str, file: IO[bytes], tenant_id: str, request_id: str, sending: Sending, *, scored: bool
) -> tuple[list[_Line], Sequence[PublishSignalsResponse]]:
    """What became of each line, and of each tenant the last answer that tells of its score."""
    from coherence_grpc.cli.importing.batches import Batcher

    rows, lines = _read(file, tenant_id)
    batcher = Batcher()
    batches = [batch for row in rows for batch in batcher.add(row)]
    batches += batcher.rest()
    last = {batch.tenant_id: batch.number for batch in batches} if scored else {}
    scores: list[PublishSignalsResponse] = []
    async with session(address) as client:
        for batch in batches:
            part = request_id if len(batches) == 1 or not request_id else f"{request_id}:{batch.number}"
            waits = last.get(batch.tenant_id) == batch.number
            sent, response = await _send(client, batch.tenant_id, batch.rows, part, sending, scored=waits)
            lines += sent
            if waits and response is not None:
                scores.append(response)
    return sorted(lines, key=lambda line: line.line), scores


def _read(file: IO[bytes], tenant_id: str) -> tuple[list[Row], list[_Line]]:
    from coherence_grpc.cli.importing.rows import JsonLines, Row

    rows: list[Row] = []
    lines: list[_Line] = []
    for row in JsonLines(file, tenant_id=tenant_id).rows():
        if isinstance(row, Row):
            rows.append(row)
        else:
            lines.append(_Line(row.line, reject=row))
        if len(rows) > MAX_LINES:
            message = f"more than {MAX_LINES:,} lines; nothing was stored"
            raise Failure(message, "use `coherence import FILE`, which can be resumed", exit_code=USAGE)
    return rows, lines


async def _send(
    client: Client, tenant_id: str, rows: Sequence[Row], request_id: str, sending: Sending, *, scored: bool
) -> tuple[list[_Line], PublishSignalsResponse | None]:
    import grpc.aio

    from coherence_grpc.cli.importing.refusals import refuses_the_content
    from coherence_grpc.client import refusal_of

    try:
        signals = [row.signal for row in rows]
        response = await sending.publish(client, tenant_id, signals, request_id, scored=scored)
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        if not refuses_the_content(refusal):
            raise
        return [_Line(row.line, refusal=refusal) for row in rows], None
    lines = [
        _Line(row.line, refusal=refusal_in(result.error)) if result.HasField("error") else _Line(row.line, result)
        for row, result in zip(rows, response.results, strict=True)
    ]
    return lines, response


def _show_lines(
    lines: Sequence[_Line], scores: Sequence[PublishSignalsResponse], sending: Sending, *, as_json: bool
) -> int:
    from coherence_grpc.cli.views import outcome_word

    counts = {"STORED": 0, "REPLACED": 0, "DUPLICATE": 0, "REFUSED": 0}
    for line in lines:
        outcome = outcome_word(line.result.outcome) if line.result is not None else "REFUSED"
        counts[outcome] += 1
        if as_json:
            say_json({"line": line.line, "outcome": outcome, **_details(line)})
        elif line.result is None:
            notes().print(plain(f"line {line.line}: {_why(line)}"), soft_wrap=True)
    if not as_json:
        words = (
            ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "no signals: nothing to store"
        )
        screen().print(plain(words + (DRY if sending.dry_run else "")))
    for response in scores:
        if as_json:
            say_json(_score_record(response))
        else:
            _show_score(response)
    return REFUSED if counts["REFUSED"] else 0


def _details(line: _Line) -> dict[str, object]:
    if line.result is not None:
        return {"seq": line.result.seq, "provenance_id": line.result.provenance_id}
    if line.refusal is not None:
        return {"error": refusal_record(line.refusal)}
    return {"error": {"code": "INVALID_ARGUMENT", "reason": "SIGNAL_INVALID", "message": _why(line)}}


def _why(line: _Line) -> str:
    if line.refusal is not None:
        return f"{line.refusal.reason or line.refusal.code}: {said(line.refusal)}"
    if line.reject is not None:
        return f"SIGNAL_INVALID: {line.reject.field} {line.reject.problem}".replace(":  ", ": ")
    return ""
