"""Values with defaults: a test names only what it is about."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from coherence_grpc.ingest import Publication
from coherence_grpc.ledger import encode_signal, request_hash
from coherence_grpc.model import (
    Caller,
    Draft,
    Held,
    Item,
    Key,
    OnConflict,
    Provenance,
    Score,
    ScoreSource,
    StoredSignal,
    Tags,
    Write,
)
from coherence_grpc.score import quantise, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.errors import CoherenceError

# 2013-02-08T00:00Z: the demo's first hour.
NOON: Final = 1_360_281_600_000_000
TENANT: Final = "acme"

_counters: dict[str, int] = defaultdict(int)


def fresh(prefix: str) -> str:
    """A name not given before in this process."""
    _counters[prefix] += 1
    return f"{prefix}-{_counters[prefix]}"


class ManualClock:
    """A Clock that stands still until it is advanced."""

    simulated = True

    def __init__(self, now: int = NOON, *, speed: float = 1.0) -> None:
        self._now = now
        self.speed = speed

    def now(self) -> int:
        return self._now

    def observe(self, instant: int) -> None:
        self._now = max(self._now, instant)

    def advance(self, us: int) -> None:
        self._now += us

    def machine_seconds(self, domain_us: int) -> float:
        return domain_us / 1e6 / self.speed


def an_item(
    *,
    source: str = "ci",
    signal_id: str | None = None,
    type: str = "build",  # noqa: A002 - the domain's word
    value: float = 0.8,
    weight: float = 1.0,
    ts: int = NOON,
) -> Item:
    """A signal ready to store; its signal_id is fresh unless named."""
    signal_id = fresh("signal") if signal_id is None else signal_id
    return Item(source, signal_id, type, quantise(value), quantise(weight), ts)


def a_draft(
    *,
    source: str = "ci",
    signal_id: str | None = None,
    type: str = "build",  # noqa: A002 - the domain's word
    value: float = 0.8,
    weight: float = 1.0,
    ts: int | None = NOON,
) -> Item | Draft:
    """A signal as a caller sent it; its signal_id is fresh unless named ('' leaves it out)."""
    signal_id = fresh("signal") if signal_id is None else signal_id
    if ts is None or not signal_id:
        return Draft(source, signal_id, type, quantise(value), quantise(weight), ts)
    return Item(source, signal_id, type, quantise(value), quantise(weight), ts)


def a_signal(
    *,
    tenant_id: str = TENANT,
    item: Item | None = None,
    seq: int = 1,
    provenance_id: str = "provenance-1",
    recorded_at: int = NOON,
    head_hash: bytes = b"\x01" * 32,
    backfill: bool = False,
) -> StoredSignal:
    """A signal as the log holds it."""
    return StoredSignal(tenant_id, item or an_item(), seq, provenance_id, recorded_at, head_hash, backfill)


def key_of(item: Item, tenant_id: str = TENANT) -> Key:
    """What identifies the item in its tenant."""
    return Key(tenant_id, item.source, item.signal_id, item.ts)


def payload_of(item: Item) -> bytes:
    """The item's ledger encoding."""
    return encode_signal(*item)


def a_provenance(
    *,
    tenant_id: str = TENANT,
    request_id: str | None = None,
    items: Sequence[Item] = (),
    tags: Tags | None = None,
    received_at: int = NOON,
    backfill: bool = False,
    hashed: bytes | None = None,
    traceparent: str = "",
    on_conflict: OnConflict = OnConflict.REJECT,
) -> Provenance:
    """A record whose request_hash covers the items unless one is given."""
    tags = tags or Tags()
    covered = [(3, payload_of(item)) for item in items]
    return Provenance(
        provenance_id=str(uuid4()),
        tenant_id=tenant_id,
        request_id=fresh("request") if request_id is None else request_id,
        request_hash=hashed or request_hash(tenant_id, covered, tags, backfill=backfill, on_conflict=on_conflict),
        tags=tags,
        principal="local",
        transport="grpc",
        received_at=received_at,
        traceparent=traceparent,
        backfill=backfill,
    )


def a_write(
    *items: Item,
    tenant_id: str = TENANT,
    request_id: str | None = None,
    tags: Tags | None = None,
    backfill: bool = False,
    refused: Mapping[int, CoherenceError] | None = None,
    provenance: Provenance | None = None,
    traceparent: str = "",
    on_conflict: OnConflict = OnConflict.REJECT,
) -> Write:
    """One request's items (one fresh item when none is named), each at the next position that is not refused."""
    items = items or (an_item(),)
    refused = refused or {}
    free = (index for index in range(len(items) + len(refused)) if index not in refused)
    return Write(
        provenance=provenance
        or a_provenance(
            tenant_id=tenant_id,
            request_id=request_id,
            items=items,
            tags=tags,
            backfill=backfill,
            traceparent=traceparent,
            on_conflict=on_conflict,
        ),
        items=items,
        payloads=[payload_of(item) for item in items],
        positions=list(free),
        refused=refused,
        on_conflict=on_conflict,
    )


def a_publication(
    *drafts: Item | Draft,
    tenant_id: str = TENANT,
    request_id: str = "",
    tags: Tags | None = None,
    backfill: bool = False,
    validate_only: bool = False,
    refused: Mapping[int, CoherenceError] | None = None,
    item_path: str = "signals[{}]",
    on_conflict: OnConflict = OnConflict.REJECT,
) -> Publication:
    """One request's drafts (one fresh draft when none is named), each at the next position that is not refused."""
    drafts = drafts or (a_draft(),)
    refused = refused or {}
    return Publication(
        tenant_id=tenant_id,
        drafts=drafts,
        positions=[index for index in range(len(drafts) + len(refused)) if index not in refused],
        refused=refused,
        request_id=request_id,
        tags=tags or Tags(),
        backfill=backfill,
        validate_only=validate_only,
        item_path=item_path,
        on_conflict=on_conflict,
    )


def a_caller(
    *,
    principal: str = "local",
    scopes: Iterable[str] = ("coherence:read", "coherence:write", "coherence:subscribe", "coherence:admin"),
    tenants: Iterable[str] | None = None,
    transport: str = "grpc",
    traceparent: str = "",
) -> Caller:
    """A caller who may do everything unless narrowed."""
    return Caller(principal, frozenset(scopes), None if tenants is None else frozenset(tenants), transport, traceparent)


def a_score(
    *,
    tenant_id: str = TENANT,
    score_ppm: int | None = 800_000,
    signal_count: int = 1,
    window_end: int = NOON,
    valid_until: int | None = None,
    as_of_seq: int = 1,
    head_hash: bytes = b"\x01" * 32,
    signal_epoch: int = 1,
    score_epoch: int = 1,
    version: int = 1,
    backfill: bool = False,
    status_changed: bool = False,
    held: Held | None = None,
) -> Score:
    """A published row; its status is that of the score, which is held unless another is."""
    return Score(
        tenant_id=tenant_id,
        score_ppm=score_ppm,
        status=status_of(score_ppm),
        signal_count=signal_count if score_ppm is not None else 0,
        weight_q=signal_count * 10**9 if score_ppm is not None else 0,
        window_start=window_end - 86_400_000_000,
        window_end=window_end,
        data_time=window_end if score_ppm is not None else None,
        valid_until=valid_until,
        as_of_seq=as_of_seq,
        head_hash=head_hash,
        signal_epoch=signal_epoch,
        score_epoch=score_epoch,
        version=version,
        computed_at=window_end,
        source=ScoreSource.MATERIALIZED,
        backfill=backfill,
        status_changed=status_changed,
        held=held or Held(status_of(score_ppm), None),
    )
