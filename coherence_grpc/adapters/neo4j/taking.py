"""What a commit takes away from who reads at the head before it: signals that were erased, or replaced.

The server shows a commit piece by piece, so a signal may be gone before anything tells of it. Therefore both are said
beforehand, in a commit of their own: who reads the tenant's node after the signals, and finds neither there, read
nothing of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.neo4j.instants import microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.signal_rows import COLUMNS as SIGNAL_COLUMNS
from coherence_grpc.adapters.neo4j.signal_rows import signals_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from coherence_grpc.model import StoredSignal

    class Ask(Protocol):
        """Asks for the one record that a query finds."""

        async def __call__(self, query: str, **parameters: Any) -> Sequence[Any]:  # noqa: ANN401 - of the query
            """The values of the record; empty when there is none."""
            ...


TAKEN: Final = f"""{KEPT}
MATCH (t:Tenant {{tenant_id: $tenant_id}})
RETURN coalesce({microseconds("t.erased_ts")}, -1), coalesce({microseconds("t.erasing_ts")}, -1),
       coalesce(t.replacing, false)
"""
SUPERSEDED: Final = f"""{KEPT}
MATCH (s:Superseded)
USING INDEX SEEK s:Superseded(tenant_id, superseded_seq)
WHERE s.tenant_id = $tenant_id AND s.superseded_seq > $head_seq AND s.seq <= $head_seq
{SIGNAL_COLUMNS}
"""


class Taken(NamedTuple):
    """The highest ts that was erased, and that a pruning began to erase (-1: none); `replacing`: signals may go so."""

    erased: int = -1
    erasing: int = -1
    replacing: bool = False


async def taken(ask: Ask, tenant_id: str) -> Taken:
    """What the tenant's node says."""
    return Taken(*await ask(TAKEN, tenant_id=tenant_id))


async def superseded(ask: Ask, tenant_id: str, head_seq: int) -> Sequence[StoredSignal]:
    """The signals of the log up to the head that were replaced since."""
    return signals_of(tenant_id, await ask(SUPERSEDED, tenant_id=tenant_id, head_seq=head_seq))
