"""Page tokens: where a list goes on, bound to the request that it belongs to."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import PageTokenInvalid
from coherence_grpc.materialize.history import Position, Range
from coherence_grpc.model import Held, Status
from coherence_grpc.ports import rank_of

if TYPE_CHECKING:
    from coherence.v1.ingest_pb2 import ListSignalsRequest
    from coherence.v1.score_pb2 import ListScoreHistoryRequest, ListScorePolicyVersionsRequest, ListScoresRequest
    from coherence_grpc.model import Item, Score
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import PortfolioOrder
    from coherence_grpc.tokens import Signer

    Listing = ListSignalsRequest | ListScoresRequest | ListScorePolicyVersionsRequest | ListScoreHistoryRequest

DEFAULT_PAGE: Final = 100
_SIGNAL: Final = struct.Struct(">qH")
_SCORE: Final = struct.Struct(">Bq")
# What a position among scores begins with; that of a release without orders began with 0.
_RANKED: Final = 1
_SEQ: Final = struct.Struct(">Q")
_HISTORY: Final = struct.Struct(">qqqQQ")
# What is held and since when, and each of what is pending: a status by its place among them, and an instant.
_HELD: Final = struct.Struct(">Bq")
_STATUSES: Final = tuple(Status)


def page_size(request: Listing) -> int:
    """How many the caller wants, at most."""
    return request.page_size or DEFAULT_PAGE


def signals_before(request: ListSignalsRequest, signer: Signer) -> tuple[int, str, str] | None:
    """The (ts, source, signal_id) that the page is below; None on the first.

    Raises:
        PageTokenInvalid: the token belongs to another request.
    """
    if not request.page_token:
        return None
    position = signer.read_page(_bound(request), request.page_token)
    ts, length = _SIGNAL.unpack_from(position)
    text = position[_SIGNAL.size :]
    return ts, text[:length].decode(), text[length:].decode()


def signals_page(request: ListSignalsRequest, signer: Signer, last: Item) -> str:
    """The token of the page after this signal."""
    source = last.source.encode()
    return signer.page(_bound(request), _SIGNAL.pack(last.ts, len(source)) + source + last.signal_id.encode())


def scores_after(request: ListScoresRequest, signer: Signer) -> tuple[int, str] | None:
    """The (rank in the request's order, tenant_id) that the page is beyond; None on the first.

    Raises:
        PageTokenInvalid: the token belongs to another request.
    """
    if not request.page_token:
        return None
    position = signer.read_page(_bound(request), request.page_token)
    if position[0] != _RANKED:
        message = "page_token is of a release without orders; leave it out to start from the first page"
        raise PageTokenInvalid(message)
    return _SCORE.unpack_from(position)[1], position[_SCORE.size :].decode()


def scores_page(request: ListScoresRequest, signer: Signer, last: Score, order: PortfolioOrder) -> str:
    """The token of the page after this score."""
    return signer.page(_bound(request), _SCORE.pack(_RANKED, rank_of(last, order)) + last.tenant_id.encode())


def policies_before(request: ListScorePolicyVersionsRequest, signer: Signer) -> int | None:
    """The number of the policy's entry that the page is below; None on the first.

    Raises:
        PageTokenInvalid: the token belongs to another request.
    """
    if not request.page_token:
        return None
    (seq,) = _SEQ.unpack(signer.read_page(_bound(request), request.page_token))
    return int(seq)


def policies_page(request: ListScorePolicyVersionsRequest, signer: Signer, last: PolicyVersion) -> str:
    """The token of the page after this version."""
    return signer.page(_bound(request), _SEQ.pack(last.seq))


def history_after(request: ListScoreHistoryRequest, signer: Signer) -> Position | None:
    """Where the history goes on, in the range of its first page; None on the first.

    Raises:
        PageTokenInvalid: the token belongs to another request.
    """
    if not request.page_token:
        return None
    position = signer.read_page(_bound(request), request.page_token)
    start, end, step, passed, policy_seq = _HISTORY.unpack_from(position)
    known = [(_STATUSES[status], instant) for status, instant in _HELD.iter_unpack(position[_HISTORY.size :])]
    held = Held(*known[0], tuple(known[1:])) if known else None
    return Position(Range(start, end, step), passed, held, policy_seq)


def history_page(request: ListScoreHistoryRequest, signer: Signer, following: Position) -> str:
    """The token of the page from there on."""
    held = following.held
    known = [] if held is None else [(held.status, held.since or 0), *held.pending]
    position = _HISTORY.pack(*following.range, following.passed, following.policy_seq)
    return signer.page(
        _bound(request), position + b"".join(_HELD.pack(_STATUSES.index(status), instant) for status, instant in known)
    )


def _bound(request: Listing) -> bytes:
    """What pages of one list share: everything but the token and the size."""
    rest = type(request).FromString(request.SerializeToString())
    rest.ClearField("page_token")
    rest.ClearField("page_size")
    name = type(request).DESCRIPTOR.full_name.encode()
    return sha256(name + b"\0" + rest.SerializeToString(deterministic=True)).digest()
