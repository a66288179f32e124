"""`coherence doctor`: what the service needs, checked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coherence_grpc.cli.checks import Check, machine_checks, server_checks, store_checks
from coherence_grpc.cli.failure import REFUSED
from coherence_grpc.cli.output import Grid, plain, say_json, screen
from coherence_grpc.cli.serve import settings_of
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text


@click.command()
@click.option("--data", metavar="DIR", help="The data directory.  [COHERENCE_DATA; default: data]")
@click.option("--offline", is_flag=True, help="Recompute the ledger and the scores in DIR; nothing may serve it.")
@json_option
@address_option
@asynchronous
async def doctor(data: str | None, offline: bool, as_json: bool, address: str) -> int:
    """Check this machine, the stores and the running server; with --offline, the files of a data directory."""
    settings = settings_of({"data": data})
    if offline:
        from coherence_grpc.cli.offline import offline_checks

        checks = await offline_checks(settings.data)
    else:
        async with session(address) as client:
            checks = [*machine_checks(settings), *await store_checks(settings), *await server_checks(client)]
    if as_json:
        for check in checks:
            say_json({"check": check.name, "ok": check.ok, "found": check.found, "next_step": check.next_step})
    else:
        _show(checks)
    return REFUSED if any(check.ok is False for check in checks) else 0


def _show(checks: Sequence[Check]) -> None:
    grid = Grid("", "check", "found", "next step", whole=("", "check"))
    for check in checks:
        grid.add(_mark(check.ok), check.name, plain(check.found), plain(check.next_step))
    screen().print(grid)


def _mark(ok: bool | None) -> Text:
    word, style = {True: ("ok", "green"), None: ("–", "dim"), False: ("FAULT", "bold red")}[ok]
    mark = plain(word)
    mark.stylize(style)
    return mark
