"""A process that holds leases until it is killed: `python -m tests.conformance.holding URI SCHEMA HOLDER`.

Prints how many shards it holds whenever that changes.
"""

from __future__ import annotations

import asyncio
import sys

from coherence_grpc.adapters.postgres import open_leases
from coherence_grpc.shards import shard_of

SHARDS = 64


def one_of_each() -> list[str]:
    """A tenant of each shard."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < SHARDS:
        found.setdefault(shard_of(f"tenant-{n}", SHARDS), f"tenant-{n}")
        n += 1
    return [found[shard] for shard in range(SHARDS)]


async def main(uri: str, schema: str, holder: str) -> None:
    """Holds them for good."""
    tenants = one_of_each()
    async with open_leases(uri, namespace=schema, holder=holder) as leases:

        def say() -> None:
            print(sum(map(leases.holds, tenants)), flush=True)  # noqa: T201 - this is a command

        leases.listen(say)
        say()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
