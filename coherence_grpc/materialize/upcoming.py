"""Which signal dated after a window will be the first to count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.model import SECOND

if TYPE_CHECKING:
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import SignalStore, WindowColumns

# The next part looked at is so many times as long as the one before.
_GROWTH: Final = 8
# Of so many that don't count it is not worth looking further.
_ENOUGH: Final = 10_000


async def next_counting(
    signals: SignalStore, tenant_id: str, columns: WindowColumns, policy: ScorePolicy
) -> WindowColumns:
    """The columns, their `upcoming` that of the first signal after the window which the policy gives weight.

    Behind thousands whose types it mutes, it may be one of those: earlier than need be, never too late.
    """
    muted = {type_ for type_, factor_ppm in policy.type_weights if not factor_ppm}
    upcoming, length, seen = columns.upcoming, SECOND, 0
    while muted and upcoming is not None and seen < _ENOUGH:
        part = await signals.window(tenant_id, start=upcoming, end=upcoming + length, grouped=True)
        for ts, group in zip(part.ts, part.group or (), strict=True):
            if part.groups[group].type not in muted:
                return columns._replace(upcoming=ts)
        upcoming, length, seen = part.upcoming, length * _GROWTH, seen + len(part.ts)
    return columns._replace(upcoming=upcoming)
