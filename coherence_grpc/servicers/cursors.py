"""The positions after stored signals, for replies that show signals outside of an event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.convert.records import cursor_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import StoredSignal
    from coherence_grpc.ports import ScoreStore, SignalStore
    from coherence_grpc.tokens import Cursor


class Cursors:
    """Knows which score had been published when an entry was recorded."""

    def __init__(self, signals: SignalStore, scores: ScoreStore) -> None:
        self._signals = signals
        self._scores = scores

    async def after(self, signals: Sequence[StoredSignal]) -> Sequence[Cursor]:
        """The position after each signal's entry: what covers the entry is still to come."""
        versions: dict[tuple[str, int], int] = {}
        for signal in signals:
            # Signals of one commit share their instant.
            moment = (signal.tenant_id, signal.recorded_at)
            if moment not in versions:
                versions[moment] = await self._scores.version_at(*moment)
        return [
            cursor_after(
                signal,
                signal_epoch=self._signals.epoch,
                score_epoch=self._scores.epoch,
                version=versions[signal.tenant_id, signal.recorded_at],
            )
            for signal in signals
        ]
