"""`coherence prune`: erases what has outlived its retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coherence_grpc.cli.output import counted, notes, plain, say_json, screen
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from coherence.v1.admin_pb2 import PruneResponse


@click.command()
@click.argument("tenant", required=False, default="")
@click.option("--dry-run", is_flag=True, help="Count only; nothing is erased.")
@click.option("--batch-size", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="Signals a step.")
@json_option
@address_option
@asynchronous
async def prune(tenant: str, dry_run: bool, batch_size: int, as_json: bool, address: str) -> None:
    """Erase the bodies of signals whose retention ended more than a day ago, of one tenant or of all.

    Their hashes stay, so the ledger still verifies. It can be stopped at any moment and run again.
    """
    from coherence.v1.admin_pb2 import PruneRequest, PruneResponse

    request = PruneRequest(tenant_id=tenant, dry_run=dry_run, batch_size=batch_size)
    last = PruneResponse(dry_run=dry_run)
    async with session(address) as client:
        with notes().status("looking for expired signals") as status:
            async for last in client.admin.Prune(request):
                if as_json:
                    say_json(_record(last))
                elif not last.done:
                    status.update(
                        f"tenant {last.tenants_done:,} of {last.tenants_total:,}: {last.erased_count:,} signals"
                    )
    if not as_json:
        verb = "would be erased" if dry_run else "erased"
        screen().print(
            plain(f"{counted(last.erased_count, 'expired signal')} {verb} in {counted(last.tenants_total, 'tenant')}")
        )


def _record(step: PruneResponse) -> dict[str, object]:
    return {
        "tenant_id": step.tenant_id or None,
        "erased_count": step.erased_count,
        "tenants_done": step.tenants_done,
        "tenants_total": step.tenants_total,
        "done": step.done,
        "dry_run": step.dry_run,
    }
