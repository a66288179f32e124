"""Writes that wait for their score."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import CoherenceError
from coherence_grpc.materialize.published import PATIENCE_S
from coherence_grpc.tokens import PREFIX_BYTES, Revision

if TYPE_CHECKING:
    from coherence_grpc.materialize.scores import Scores
    from coherence_grpc.model import Caller, Head, Score
    from coherence_grpc.ports import Authoriser

READ: Final = "coherence:read"

_log = logging.getLogger(__name__)


class ScoredWrites:
    """Says what a write has made of the score. What is stored is never refused for it."""

    def __init__(self, scores: Scores, authoriser: Authoriser) -> None:
        self._scores = scores
        self._authoriser = authoriser

    async def admit(self, tenant_id: str, caller: Caller) -> None:
        """Return when the caller may read the score; asked before anything is stored.

        Raises:
            ScopeMissing, PolicyDenied: otherwise.
        """
        await self._authoriser.decide(caller, READ, tenant_id)

    async def after(self, tenant_id: str, head: Head, *, timeout_s: float) -> Score | None:
        """A score that has seen the log up to `head`; None when that takes longer than half the time or 200 ms."""
        patience_s = min(timeout_s / 2, PATIENCE_S)
        revision = Revision(head.epoch, head.seq, head.head_hash[:PREFIX_BYTES])
        try:
            async with asyncio.timeout(patience_s):
                score, _ = await self._scores.get(tenant_id, at_least=revision, timeout_s=patience_s)
        except (CoherenceError, TimeoutError):
            return None
        except Exception:  # noqa: BLE001 - logged; the write stands and its caller must hear of it
            _log.exception("the score after a write of tenant %s could not be had", tenant_id)
            return None
        return score
