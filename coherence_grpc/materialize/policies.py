"""Policies as a use case: read, changed, kept in versions. They live in the log and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from coherence_grpc.errors import EtagMismatch, FieldError, OutcomeUnknown, ScorePolicyInvalid, ScorePolicyUnknown
from coherence_grpc.ledger import lp
from coherence_grpc.materialize.versions import version_named
from coherence_grpc.model import SECOND, EntryKind, Head, Provenance, Tags
from coherence_grpc.owning import Owner
from coherence_grpc.policy import PPM, PolicyVersion, encode_policy, version_of
from coherence_grpc.replies import etag_mismatch, reused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from coherence_grpc.model import Caller, Entry
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import Clock, SignalStore

# A half-life is at least this part of the window: the oldest signal then counts at least 2⁻⁶⁴ of the newest.
HALF_LIVES: Final = 64
# A change that names no etag is made on whatever is in force; so often it may be overtaken by another.
ATTEMPTS: Final = 5
_PAGE: Final = 100

_log = logging.getLogger(__name__)


class PolicyChange(NamedTuple):
    """What a caller wants changed: `fields` are the attributes of ScorePolicy that take the values of `wanted`.

    `etag` is the version it is made on, '' for whatever is in force. `request_id` '' lets the server make one.
    """

    tenant_id: str
    wanted: ScorePolicy
    fields: frozenset[str]
    etag: str = ""
    request_id: str = ""
    validate_only: bool = False


class Policies:
    """Reads and changes policies, and has scores recomputed; an async context manager that ends what it began.

    `on_change` is called with the tenant and the number of each entry, after its commit and before its caller is
    answered.
    """

    def __init__(
        self,
        signals: SignalStore,
        clock: Clock,
        *,
        new_id: Callable[[int], str],
        on_change: Sequence[Callable[[str, int], None]],
    ) -> None:
        self._signals = signals
        self._clock = clock
        self._new_id = new_id
        self._on_change = tuple(on_change)
        self._owner = Owner()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._owner.settle()

    async def get(self, tenant_id: str, etag: str = "") -> tuple[PolicyVersion, Head]:
        """The policy in force, or the version of that etag, and a head that includes it.

        Raises:
            ScorePolicyUnknown: the tenant never had that version.
        """
        if not etag:
            head = await self._signals.head(tenant_id)
            return await self._signals.policy(tenant_id, at=head.seq), head
        return await version_named(self._signals, tenant_id, etag), await self._signals.head(tenant_id)

    async def versions(self, tenant_id: str, *, before: int | None, limit: int) -> Sequence[PolicyVersion]:
        """The tenant's policies with seq < `before` (None: all), newest first."""
        return await self._signals.policies(tenant_id, before=before, limit=limit)

    async def update(self, change: PolicyChange, caller: Caller, *, timeout_s: float) -> tuple[PolicyVersion, Head]:
        """The policy as changed, and the log with the change. Nothing is written when nothing changes.

        A request id seen before with the same content gets the first reply. `validate_only` answers with the policy as
        it would be: without an etag unless it is the one in force.

        Raises:
            ScorePolicyInvalid: the rules contradict one another; nothing is written.
            EtagMismatch: the etag is not the current one; nothing is written.
            RequestIdReused: the request id belongs to another request.
            OutcomeUnknown: it may be changed; the same request again, with a request id, gets the answer.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._attempt(change, caller, timeout_s)
            except EtagMismatch:
                if change.etag:
                    raise
                # Another change came between: this one is made on top of it.
        return await self._attempt(change, caller, timeout_s)

    async def recompute(
        self, tenant_id: str, request_id: str, caller: Caller, *, timeout_s: float
    ) -> tuple[Entry, Head]:
        """Has the score computed anew: the entry that says so, and the log with it.

        Raises:
            RequestIdReused, OutcomeUnknown: as `update`.
        """
        request_hash = _hash(b"RecomputeScore", tenant_id.encode())
        record = self._record(tenant_id, request_id, request_hash, caller)
        entry = await self._commit(EntryKind.RECOMPUTE, b"", record, None, timeout_s)
        return entry, self._head_after(entry)

    async def _attempt(self, change: PolicyChange, caller: Caller, timeout_s: float) -> tuple[PolicyVersion, Head]:
        base = await self._base(change)
        policy = replace(base.policy, **{name: getattr(change.wanted, name) for name in change.fields})
        check_policy(policy, change.fields)
        if change.validate_only or policy == base.policy:
            return await self._unwritten(change, base, policy)
        record = self._record(change.tenant_id, change.request_id, _update_hash(change), caller)
        entry = await self._commit(EntryKind.POLICY, encode_policy(policy), record, base.seq, timeout_s)
        version = version_of(entry.seq, entry.payload, entry.recorded_at, entry.provenance_id)
        return version, self._head_after(entry)

    async def _base(self, change: PolicyChange) -> PolicyVersion:
        """What the change is made on. Whether that is in force is for the commit to say: a retry comes later."""
        if not change.etag:
            return await self._signals.policy(change.tenant_id)
        try:
            return await version_named(self._signals, change.tenant_id, change.etag)
        except ScorePolicyUnknown:
            current = await self._signals.policy(change.tenant_id)
            raise etag_mismatch(change.tenant_id, current.etag) from None

    async def _unwritten(
        self, change: PolicyChange, base: PolicyVersion, policy: ScorePolicy
    ) -> tuple[PolicyVersion, Head]:
        """The reply to a change of which nothing is written."""
        if not change.validate_only and change.request_id:
            first = await self._first_reply(change)
            if first is not None:
                return first, await self._signals.head(change.tenant_id)
        if change.etag:
            current = await self._signals.policy(change.tenant_id)
            if current.etag != base.etag:
                raise etag_mismatch(change.tenant_id, current.etag)
        version = base if policy == base.policy else PolicyVersion(0, policy, "", None, "")
        return version, await self._signals.head(change.tenant_id)

    async def _first_reply(self, change: PolicyChange) -> PolicyVersion | None:
        """The version that the request wrote when it came before, though others followed."""
        before: int | None = None
        while page := await self._signals.policies(change.tenant_id, before=before, limit=_PAGE):
            for version in page:
                record = await self._signals.provenance(change.tenant_id, version.provenance_id)
                if record is None or record.request_id != change.request_id:
                    continue
                if record.request_hash != _update_hash(change):
                    raise reused(record)
                return version
            before = page[-1].seq
        return None

    def _record(self, tenant_id: str, request_id: str, request_hash: bytes, caller: Caller) -> Provenance:
        now = self._clock.now()
        return Provenance(
            provenance_id=self._new_id(now),
            tenant_id=tenant_id,
            request_id=request_id or self._new_id(now),
            request_hash=request_hash,
            tags=Tags(),
            principal=caller.principal,
            transport=caller.transport,
            received_at=now,
            traceparent=caller.traceparent,
            backfill=False,
        )

    async def _commit(
        self, kind: EntryKind, payload: bytes, record: Provenance, based_on: int | None, timeout_s: float
    ) -> Entry:
        try:
            async with asyncio.timeout(timeout_s):
                # A caller that goes away must not keep those from hearing of the change who have to.
                return await self._owner.owned(self._append(kind, payload, record, based_on))
        except TimeoutError:
            message = (
                "the commit took longer than the call had time for;"
                " send the same request again, with its request_id, to learn what became of it"
            )
            raise OutcomeUnknown(message, metadata={"outcome": "unknown"}) from None

    async def _append(self, kind: EntryKind, payload: bytes, record: Provenance, based_on: int | None) -> Entry:
        entry = await self._signals.append_own(
            record.tenant_id, kind, payload, record, now=self._clock.now(), based_on=based_on
        )
        for notify in self._on_change:
            try:
                notify(entry.tenant_id, entry.seq)
            except Exception:  # noqa: BLE001 - logged; the commit stands and its caller must hear of it
                _log.exception("following tenant %s failed at entry %d", entry.tenant_id, entry.seq)
        return entry

    def _head_after(self, entry: Entry) -> Head:
        return Head(self._signals.epoch, entry.seq, entry.head_hash)


def check_policy(policy: ScorePolicy, changed: Collection[str] = ()) -> None:
    """Return when the rules make sense together; of two that don't, the one that was `changed` is named.

    Raises:
        ScorePolicyInvalid: naming each field that is wrong as `policy.<field>`.
    """
    wrong = list(_contradictions(policy, changed))
    if wrong:
        path, problem = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        message = f"{path} {problem}{more}"
        raise ScorePolicyInvalid(message, fields=wrong)


def _contradictions(policy: ScorePolicy, changed: Collection[str]) -> Iterator[FieldError]:
    if policy.warn_ppm > policy.healthy_ppm:
        if "healthy_ppm" in changed and "warn_ppm" not in changed:
            problem = f"must be at least warn_threshold, {_fraction(policy.warn_ppm)}; raise it, or lower that too"
            yield FieldError("policy.healthy_threshold", problem)
        else:
            problem = f"must be at most healthy_threshold, {_fraction(policy.healthy_ppm)}; lower it, or raise that too"
            yield FieldError("policy.warn_threshold", problem)
    yield from _durations(policy, changed)
    seen = set()
    for index, veto in enumerate(policy.vetoes):
        if (veto.type, veto.cap) in seen:
            problem = (
                f"repeats the veto of {veto.type!r} with cap_status {veto.cap}; keep the one with the higher below"
            )
            yield FieldError(f"policy.vetoes[{index}].type", problem)
        seen.add((veto.type, veto.cap))


def _durations(policy: ScorePolicy, changed: Collection[str]) -> Iterator[FieldError]:
    window_alone = "window_us" in changed
    if policy.half_life_us is not None and policy.half_life_us * HALF_LIVES < policy.window_us:
        if window_alone and "half_life_us" not in changed:
            most = _seconds(policy.half_life_us * HALF_LIVES)
            yield FieldError("policy.window", f"must be at most {HALF_LIVES} times half_life, {most}; change that too")
        else:
            # Rounded up to the microsecond.
            least = _seconds(-(-policy.window_us // HALF_LIVES))
            yield FieldError("policy.half_life", f"must be at least a {HALF_LIVES}th of the window, {least}; raise it")
    if policy.stale_after_us is not None and policy.stale_after_us > policy.window_us:
        window = _seconds(policy.window_us)
        if window_alone and "stale_after_us" not in changed:
            least = _seconds(policy.stale_after_us)
            yield FieldError("policy.window", f"must be at least stale_after, {least}; lower that too, or clear it")
        else:
            problem = f"must be at most the window, {window}, which no signal outlasts; lower it, or clear it"
            yield FieldError("policy.stale_after", problem)


def _fraction(ppm: int) -> str:
    return f"{ppm / PPM:.6g}"


def _seconds(us: int) -> str:
    return f"{us / SECOND:.15g} s"


def _update_hash(change: PolicyChange) -> bytes:
    """H over what a retry must repeat: tenant, new values, what they are for, and the version they are made on."""
    fields = ",".join(sorted(change.fields)).encode()
    wanted = encode_policy(change.wanted)
    return _hash(b"UpdateScorePolicy", change.tenant_id.encode(), wanted, fields, change.etag.encode())


def _hash(*words: bytes) -> bytes:
    return sha256(b"".join(map(lp, words))).digest()
