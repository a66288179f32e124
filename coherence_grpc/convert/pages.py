"""Page tokens: where a list goes on, bound to the request that it belongs to."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from coherence_grpc.score import UNKNOWN_RANK

if TYPE_CHECKING:
    from coherence.v1.ingest_pb2 import ListSignalsRequest
    from coherence.v1.score_pb2 import ListScoresRequest
    from coherence_grpc.model import Item, Score
    from coherence_grpc.tokens import Signer

DEFAULT_PAGE: Final = 100
_SIGNAL: Final = struct.Struct(">qH")
_SCORE: Final = struct.Struct(">I")


def page_size(request: ListSignalsRequest | ListScoresRequest) -> int:
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
    """The (score in ppm, tenant_id) that the page is beyond; None on the first.

    Raises:
        PageTokenInvalid: the token belongs to another request.
    """
    if not request.page_token:
        return None
    position = signer.read_page(_bound(request), request.page_token)
    return _SCORE.unpack_from(position)[0], position[_SCORE.size :].decode()


def scores_page(request: ListScoresRequest, signer: Signer, last: Score) -> str:
    """The token of the page after this score."""
    ppm = UNKNOWN_RANK if last.score_ppm is None else last.score_ppm
    return signer.page(_bound(request), _SCORE.pack(ppm) + last.tenant_id.encode())


def _bound(request: ListSignalsRequest | ListScoresRequest) -> bytes:
    """What pages of one list share: everything but the token and the size."""
    rest = type(request).FromString(request.SerializeToString())
    rest.ClearField("page_token")
    rest.ClearField("page_size")
    name = type(request).DESCRIPTOR.full_name.encode()
    return sha256(name + b"\0" + rest.SerializeToString(deterministic=True)).digest()
