"""`coherence provenance`: who stored what, and whether the ledger is as it was written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import REFUSED, USAGE, Failure
from coherence_grpc.cli.output import Grid, notes, plain, say_json, screen
from coherence_grpc.cli.scores import portfolio
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.status import Status
    from rich.text import Text

    from coherence.v1.ingest_pb2 import GetProvenanceResponse
    from coherence_grpc.client import Client

SHOWN_HASH: Final = 16


@click.group()
def provenance() -> None:
    """Show who stored what, and verify the ledger."""


@provenance.command()
@click.argument("tenant")
@click.argument("provenance_id")
@json_option
@address_option
@asynchronous
async def show(tenant: str, provenance_id: str, as_json: bool, address: str) -> None:
    """Show the record of one request: who, when, how, under which tags, and the entries it stored."""
    from coherence.v1.ingest_pb2 import GetProvenanceRequest

    async with session(address) as client:
        found = await client.ingest.GetProvenance(GetProvenanceRequest(tenant_id=tenant, provenance_id=provenance_id))
    if as_json:
        say_json({**_record(found), "links": _links(found)})
        return
    grid = Grid("field", "value")
    for name, value in _record(found).items():
        grid.add(name, plain(str(value)))
    screen().print(grid)
    links = Grid("seq", "entry hash", "head hash", right=("seq",), whole=("entry hash", "head hash"))
    for link in found.links:
        links.add(f"{link.seq:,}", link.entry_hash.hex()[:SHOWN_HASH], link.head_hash.hex()[:SHOWN_HASH])
    screen().print(links)


def _record(found: GetProvenanceResponse) -> dict[str, object]:
    from coherence.v1.signal_pb2 import LICENSE_RESTRICTED_TOS, License, Purpose, Residency, Retention
    from coherence_grpc.cli.views import instant_of

    licenses = {LICENSE_RESTRICTED_TOS: "Restricted-TOS"}

    record = found.provenance
    return {
        "provenance_id": record.provenance_id,
        "tenant_id": record.tenant_id,
        "request_id": record.request_id,
        "request_hash": record.request_hash.hex(),
        "principal": record.principal,
        "transport": record.transport,
        "received_time": instant_of(record.received_time),
        "purpose": _word(Purpose.Name(record.tags.purpose), "PURPOSE_"),
        "retention": _word(Retention.Name(record.tags.retention), "RETENTION_"),
        "license": licenses.get(record.tags.license, License.Name(record.tags.license)),
        "residency": Residency.Name(record.tags.residency).removeprefix("RESIDENCY_"),
        "backfill": record.backfill,
        "traceparent": record.traceparent,
    }


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")


def _links(found: GetProvenanceResponse) -> list[Mapping[str, object]]:
    return [
        {
            "seq": link.seq,
            "entry_hash": link.entry_hash.hex(),
            "previous_head_hash": link.previous_head_hash.hex(),
            "head_hash": link.head_hash.hex(),
        }
        for link in found.links
    ]


@provenance.command()
@click.argument("tenants", nargs=-1, metavar="[TENANT...]")
@click.option("--all", "all_tenants", is_flag=True, help="Every tenant that has a score.")
@json_option
@address_option
@asynchronous
async def verify(tenants: tuple[str, ...], all_tenants: bool, as_json: bool, address: str) -> int:
    """Recompute the hash chain of tenants' logs, and say where one breaks first."""
    if bool(tenants) == all_tenants:
        message = "name tenants, or say --all"
        raise Failure(message, "see `coherence provenance verify --help`", exit_code=USAGE)
    grid = Grid(
        *("tenant", "ledger", "entries", "bodies erased", "head hash"),
        right=("entries", "bodies erased"),
        whole=("head hash",),
        optional=("head hash", "bodies erased"),
    )
    broken = 0
    async with session(address) as client:
        if all_tenants:
            tenants = tuple([score.tenant_id async for score in portfolio(client)])
        with notes().status("verifying") as status:
            for number, tenant in enumerate(tenants, 1):
                where = f"verifying {tenant} ({number:,} of {len(tenants):,})"
                verdict = await verified(client, tenant, partial(_tell, status, where))
                broken += not verdict.valid
                if as_json:
                    say_json(asdict(verdict))
                grid.add(*_row(verdict))
    if not as_json:
        screen().print(grid if tenants else plain("no tenant has a score yet: nothing to verify"))
    return REFUSED if broken else 0


def _tell(status: Status, where: str, checked: int) -> None:
    status.update(f"{where}: {checked:,} entries")


@dataclass(slots=True)
class Verdict:
    """What verification says of a tenant's log."""

    tenant_id: str
    valid: bool
    checked_count: int
    erased_count: int
    first_bad_seq: int | None
    reason: str
    head_hash: str


async def verified(client: Client, tenant_id: str, on_progress: Callable[[int], None]) -> Verdict:
    """The verdict on the whole log of a tenant, up to its head as it was when the last page was read."""
    from coherence.v1.ingest_pb2 import VerifyLedgerRequest

    checked = erased = 0
    request = VerifyLedgerRequest(tenant_id=tenant_id)
    while True:
        page = await client.ingest.VerifyLedger(request)
        checked += page.checked_count
        erased += page.erased_count
        on_progress(checked)
        if page.complete or not page.valid:
            bad = page.first_bad_seq or None
            return Verdict(tenant_id, page.valid, checked, erased, bad, page.reason, page.next_head_hash.hex())
        request = VerifyLedgerRequest(
            tenant_id=tenant_id, from_seq=page.next_seq, expected_head_hash=page.next_head_hash
        )


def _row(verdict: Verdict) -> tuple[str | Text, ...]:
    word = plain("intact") if verdict.valid else plain(f"BROKEN at {verdict.first_bad_seq:,}: {verdict.reason}")
    word.stylize("green" if verdict.valid else "bold red")
    return (
        plain(verdict.tenant_id),
        word,
        f"{verdict.checked_count:,}",
        f"{verdict.erased_count:,}",
        verdict.head_hash[:SHOWN_HASH],
    )
