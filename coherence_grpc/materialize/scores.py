"""Reading scores: one and many."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import (
    CoherenceError,
    CursorExpired,
    CursorForeign,
    StoreDown,
    StoreTimeout,
)
from coherence_grpc.materialize.asking import check_past, invalid
from coherence_grpc.materialize.published import GRACE_S, PublishedScores
from coherence_grpc.materialize.versions import version_named
from coherence_grpc.model import Head
from coherence_grpc.tokens import PREFIX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.model import Caller, Score
    from coherence_grpc.ports import Authoriser, Clock, ScoreStore, SignalStore
    from coherence_grpc.tokens import Revision, Signer

READ: Final = "coherence:read"
_TENANT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Scores:
    """The scores of the tenants, for readers."""

    def __init__(
        self,
        signals: SignalStore,
        scores: ScoreStore,
        materializer: Materializer,
        clock: Clock,
        authoriser: Authoriser,
        signer: Signer,
        *,
        published: PublishedScores | None = None,
        read_mode: Callable[[], str] = lambda: "cache",
    ) -> None:
        self._signals = signals
        self._scores = scores
        self._materializer = materializer
        self._clock = clock
        self._authoriser = authoriser
        self._signer = signer
        self._published = published or PublishedScores(materializer.rows, materializer, clock)
        self._read_mode = read_mode

    async def get(
        self,
        tenant_id: str,
        *,
        as_of: int | None = None,
        policy_etag: str = "",
        at_least: Revision | None = None,
        timeout_s: float,
    ) -> tuple[Score, Head]:
        """The tenant's score now, or as of a past instant, and the head of the log that it has seen.

        It has seen every write acknowledged before the call, and `at_least` that revision. `policy_etag` names the
        version of the policy for a past instant; empty: the one in force now. A tenant never heard of is UNKNOWN with 0
        signals.

        Raises:
            FilterInvalid: `as_of` is ahead of the clock, or a policy is named without it.
            ScorePolicyUnknown: the tenant never had that policy.
            WindowIncomplete: signals of the window as of then were erased.
            CursorExpired: the log doesn't have the revision.
            StoreTimeout: the time was up.
        """
        if as_of is None and at_least is None and not policy_etag and self._read_mode() == "cache":
            known = self._materializer.known(tenant_id)
            if known is not None:
                return known, _head_of(known)
        try:
            async with asyncio.timeout(timeout_s):
                score = await self._score(tenant_id, as_of, policy_etag, at_least, timeout_s)
        except TimeoutError as error:
            message = "the score could not be computed in the time the call had; retry with a longer deadline"
            raise StoreTimeout(message, retry_after_s=GRACE_S) from error
        return score, _head_of(score)

    async def batch(
        self,
        tenant_ids: Sequence[str],
        caller: Caller,
        *,
        as_of: int | None = None,
        at_least: str = "",
        timeout_s: float,
    ) -> Sequence[tuple[Score, Head] | CoherenceError]:
        """As `get` for each tenant, in order; a refusal takes the place of its tenant's score.

        `at_least` is the token of a revision, checked for the tenant it belongs to.

        Raises:
            CursorForeign: the revision belongs to none of the tenants.
        """
        revisions = self._revisions(tenant_ids, at_least)
        deadline = asyncio.get_running_loop().time() + timeout_s
        answers: dict[str, tuple[Score, Head] | CoherenceError] = {}
        for index, tenant_id in enumerate(tenant_ids):
            if tenant_id in answers:
                continue
            try:
                await self._admit(index, tenant_id, caller)
                left = deadline - asyncio.get_running_loop().time()
                answers[tenant_id] = await self.get(
                    tenant_id, as_of=as_of, at_least=revisions.get(tenant_id), timeout_s=left
                )
            except CoherenceError as error:
                answers[tenant_id] = error
        return [answers[tenant_id] for tenant_id in tenant_ids]

    async def _score(
        self, tenant_id: str, as_of: int | None, policy_etag: str, at_least: Revision | None, timeout_s: float
    ) -> Score:
        check_past(self._clock, as_of, policy_etag)
        if as_of is not None:
            version = await version_named(self._signals, tenant_id, policy_etag) if policy_etag else None
            score = await self._materializer.as_of(tenant_id, as_of, version)
        else:
            score = await self._present(tenant_id, 0 if at_least is None else at_least.seq, timeout_s)
        if at_least is None:
            return score
        await self._check_revision(tenant_id, at_least, score)
        if score.as_of_seq < at_least.seq:
            # Entries that the server made itself, such as PRUNED, move the log and no score.
            score = await self._materializer.evaluate(tenant_id, seq=at_least.seq)
        return score

    async def _present(self, tenant_id: str, seq: int, timeout_s: float) -> Score:
        """The score now: from memory where this process keeps it, else the row; computed where neither will do."""
        mode = self._read_mode()
        if mode == "graph" or not self._materializer.enabled:
            return await self._materializer.computed(tenant_id)
        if mode == "cache" and self._materializer.keeps(tenant_id):
            try:
                return await self._materializer.evaluate(tenant_id)
            except (StoreDown, StoreTimeout):
                # Its window could not be read; what was published may still do.
                pass
        return await self._published.get(tenant_id, at_least=seq, timeout_s=timeout_s)

    async def _check_revision(self, tenant_id: str, revision: Revision, score: Score) -> None:
        head_hash: bytes | None = None
        if revision.signal_epoch == score.signal_epoch:
            at_head = revision.seq == score.as_of_seq
            head_hash = score.head_hash if at_head else await self._signals.hash_at(tenant_id, revision.seq)
        if head_hash is not None and head_hash[:PREFIX_BYTES] == revision.hash_prefix:
            return
        head = await self._signals.head(tenant_id)
        message = (
            f"the log of tenant {tenant_id!r} does not have this revision: it was restored or replaced since;"
            " read without it and go on from the revision of that reply"
        )
        range_ = {
            "earliest_seq": str(await self._signals.first_readable(tenant_id)),
            "latest_seq": str(head.seq),
        }
        raise CursorExpired(message, metadata=range_)

    def _revisions(self, tenant_ids: Sequence[str], token: str) -> dict[str, Revision]:
        revisions: dict[str, Revision] = {}
        if not token:
            return revisions
        for tenant_id in dict.fromkeys(tenant_ids):
            try:
                revisions[tenant_id] = self._signer.read_revision(tenant_id, token)
            except CursorForeign:
                continue
        if not revisions:
            message = "at_least_as_fresh belongs to none of the tenants asked for; use the revision of one of them"
            raise CursorForeign(message)
        return revisions

    async def _admit(self, index: int, tenant_id: str, caller: Caller) -> None:
        if not _TENANT_ID.fullmatch(tenant_id):
            problem = "must have 1 to 64 lower-case letters, digits, `_` or `-`, and start with a letter or a digit"
            path = f"tenant_ids[{index}]"
            raise invalid(path, problem)
        await self._authoriser.decide(caller, READ, tenant_id)


def _head_of(score: Score) -> Head:
    return Head(score.signal_epoch, score.as_of_seq, score.head_hash)
