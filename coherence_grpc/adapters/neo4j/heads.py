"""Where the logs stand, and how a reader knows that all of a commit can be seen.

The server shows a commit piece by piece: a head may be there before its entries, and one tenant's before another's. A
commit lets go of the heads it locked when all of it can be seen. So who locks a head, and changes nothing, has waited
for that; and a head that was seen so, or that this process committed, is settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.neo4j.instants import bounded, instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.model import GENESIS, Head

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements

# The hash is that of the head's entry, which never changes: of a node that is being changed one property may be seen as
# it was and the next as it will be.
_WITH_ENTRY: Final = """
WITH t, t.head_seq AS seq
OPTIONAL MATCH (e:Entry {tenant_id: t.tenant_id, seq: seq})
RETURN collect([t.tenant_id, seq, e.head_hash, t.head_hash])
"""
HEADS: Final = f"""{KEPT}
UNWIND $tenant_ids AS tenant_id
MATCH (t:Tenant {{tenant_id: tenant_id}})
{_WITH_ENTRY}
"""
HOLD: Final = f"""{KEPT}
UNWIND $tenant_ids AS tenant_id
MATCH (t:Tenant {{tenant_id: tenant_id}})
SET t.lock = 'read'
RETURN count(t)
"""
# Every tenant is looked at: it is asked at a start, by an operator, or four times an hour.
TENANTS: Final = "MATCH (t:Tenant) WHERE t.head_seq > 0 RETURN collect(t.tenant_id)"
MOVED: Final = f"""{KEPT}
MATCH (t:Tenant)
WHERE t.head_time >= {instant("$since")}
{_WITH_ENTRY}
"""
NEWEST: Final = f"MATCH (t:Tenant) RETURN coalesce({microseconds('max(t.head_time)')}, 0)"


class _Seen(NamedTuple):
    """A head; `whole`: its entry is shown too."""

    head: Head
    whole: bool


class Heads:
    """The heads of the logs, and how far each is settled."""

    def __init__(self, graph: Graph, epoch: int) -> None:
        self._graph = graph
        self._settled: dict[str, int] = {}
        self.epoch = epoch

    def committed(self, seqs: Mapping[str, int]) -> None:
        """All entries of these tenants up to these can be seen."""
        for tenant_id, seq in seqs.items():
            self._settled[tenant_id] = max(seq, self._settled.get(tenant_id, 0))

    async def head(self, tenant_id: str) -> Head:
        """As it is shown; some of what it covers may not be seen yet."""
        seen = (await self._look(self._graph, (tenant_id,)))[tenant_id]
        return seen.head if seen.whole else await self.settled(tenant_id)

    async def settled(self, tenant_id: str) -> Head:
        """The head, once everything up to it can be seen."""
        return (await self.settled_all((tenant_id,)))[tenant_id]

    async def settled_all(self, tenant_ids: Collection[str]) -> Mapping[str, Head]:
        """The heads of one instant, once everything up to them can be seen.

        A tenant that did not move since it was settled stands where it stood before the question; the others are held
        while all are read again, until no further one has moved.
        """
        before = {tenant_id: self._settled.get(tenant_id, 0) for tenant_id in tenant_ids}
        seen = await self._look(self._graph, tenant_ids)
        held: set[str] = set()
        while moved := {name for name, one in seen.items() if one.head.seq > before[name] or not one.whole} - held:
            held |= moved
            before |= {name: self._settled.get(name, 0) for name in before.keys() - held}
            seen = await self._look_while_held(frozenset(held), tenant_ids)
            self.committed({name: seen[name].head.seq for name in held})
        return {name: one.head for name, one in seen.items()}

    async def _look_while_held(self, held: Collection[str], tenant_ids: Collection[str]) -> Mapping[str, _Seen]:
        async def look(transaction: Statements) -> Mapping[str, _Seen]:
            await self._hold(transaction, held)
            return await self._look(transaction, tenant_ids)

        return await self._graph.transact(look)

    async def settle(self, tenant_id: str) -> None:
        """Returns when everything up to the head that was shown before the call can be seen."""
        await self._look_while_held((tenant_id,), ())

    async def reach(self, tenant_id: str, seq: int) -> None:
        """Returns when everything up to the entry, which somebody was shown, can be seen."""
        if seq > self._settled.get(tenant_id, 0):
            seen = await self._look_while_held((tenant_id,), (tenant_id,))
            self.committed({tenant_id: seen[tenant_id].head.seq})

    async def look_held(self, transaction: Statements, tenant_id: str) -> Head:
        """The head, which stays until the transaction ends."""
        await self._hold(transaction, (tenant_id,))
        return (await self._look(transaction, (tenant_id,)))[tenant_id].head

    async def _hold(self, transaction: Statements, tenant_ids: Iterable[str]) -> None:
        await transaction.ask(HOLD, tenant_ids=sorted(tenant_ids))

    async def _look(self, source: Graph | Statements, tenant_ids: Collection[str]) -> Mapping[str, _Seen]:
        (found,) = await source.ask(HEADS, tenant_ids=list(tenant_ids))
        seen = dict.fromkeys(tenant_ids, _Seen(Head(self.epoch, 0, GENESIS), whole=True))
        seen.update((row[0], self._seen(*row)) for row in found)
        return seen

    def _seen(self, _: str, seq: int, of_entry: bytes | None, of_tenant: bytes) -> _Seen:
        if not seq:
            return _Seen(Head(self.epoch, 0, GENESIS), whole=True)
        return _Seen(Head(self.epoch, seq, of_entry or of_tenant), whole=of_entry is not None)

    async def tenants(self) -> list[str]:
        """Every tenant with a log, ascending."""
        (found,) = await self._graph.ask(TENANTS)
        return sorted(found)

    async def moved(self, since: int) -> Mapping[str, Head]:
        """The heads of those recorded to from the instant on."""
        (found,) = await self._graph.ask(MOVED, since=bounded(since))
        seen = {row[0]: self._seen(*row) for row in found}
        heads = {tenant_id: one.head for tenant_id, one in seen.items() if one.whole}
        if len(heads) < len(seen):
            heads |= await self.settled_all(seen.keys() - heads.keys())
        return heads

    async def newest(self) -> int:
        """The newest recorded_at of all."""
        (found,) = await self._graph.ask(NEWEST)
        return int(found)
