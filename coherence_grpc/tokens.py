"""Opaque, signed, versioned positions: event cursors, revisions and page tokens.

A token is base64url(version ‖ key id ‖ body ‖ MAC), bound to its kind and, where it belongs to one, its tenant: what
was not issued here, or for another tenant, does not decode. The MAC is keyed BLAKE2b of 16 bytes (RFC 7693): every read
makes two tokens, and HMAC in Python costs five times as much.
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.errors import CursorForeign, PageTokenInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Head

PREFIX_BYTES: Final = 8
_VERSION: Final = 1
_MAC_BYTES: Final = 16
_CURSOR: Final = struct.Struct(">IQ8sIQ")
_REVISION: Final = struct.Struct(">IQ8s")
_HEADER: Final = struct.Struct(">BB")


class Key(NamedTuple):
    """A signing key and the id that tokens name it by."""

    key_id: int
    secret: bytes


class Cursor(NamedTuple):
    """A position in a tenant's events: after entry `seq` and after score `version`."""

    signal_epoch: int
    seq: int
    hash_prefix: bytes
    score_epoch: int
    version: int


class Revision(NamedTuple):
    """A state of a tenant's log that was seen."""

    signal_epoch: int
    seq: int
    hash_prefix: bytes


class Signer:
    """Signs with the first key and accepts all of them."""

    def __init__(self, keys: Sequence[Key]) -> None:
        # BLAKE2b takes keys of at most 64 bytes; a secret may have any length.
        self._keys = {key.key_id: sha256(key.secret).digest() for key in keys}
        self._current = Key(keys[0].key_id, self._keys[keys[0].key_id])

    def cursor(self, tenant_id: str, cursor: Cursor) -> str:
        """The token of an event position."""
        return self._seal("c", tenant_id, _CURSOR.pack(*cursor))

    def read_cursor(self, tenant_id: str, token: str) -> Cursor:
        """The position a token stands for.

        Raises:
            CursorForeign: it was not issued here, or for another tenant.
        """
        return Cursor(*self._unpack(_CURSOR, "c", tenant_id, token, "cursor"))

    def revision(self, tenant_id: str, head: Head) -> str:
        """The token of a head."""
        return self._seal("r", tenant_id, _REVISION.pack(head.epoch, head.seq, head.head_hash[:PREFIX_BYTES]))

    def read_revision(self, tenant_id: str, token: str) -> Revision:
        """The state a token stands for.

        Raises:
            CursorForeign: it was not issued here, or for another tenant.
        """
        return Revision(*self._unpack(_REVISION, "r", tenant_id, token, "revision"))

    def page(self, request: bytes, position: bytes) -> str:
        """The token of a page position, bound to the request's other fields."""
        return self._seal("p", request.hex(), position)

    def read_page(self, request: bytes, token: str) -> bytes:
        """The position a page token stands for.

        Raises:
            PageTokenInvalid: it was not issued here, or for another request.
        """
        body = self._open("p", request.hex(), token)
        if body is None:
            message = "page_token does not belong to this request; leave it out to start from the first page"
            raise PageTokenInvalid(message)
        return body

    def _unpack(
        self, shape: struct.Struct, kind: str, tenant_id: str, token: str, name: str
    ) -> tuple[Any, ...]:  # what struct.unpack returns
        body = self._open(kind, tenant_id, token)
        if body is None or len(body) != shape.size:
            message = f"this {name} was not issued by this service for tenant {tenant_id!r}; get a new one"
            raise CursorForeign(message)
        return shape.unpack(body)

    def _seal(self, kind: str, scope: str, body: bytes) -> str:
        data = _HEADER.pack(_VERSION, self._current.key_id) + body
        return urlsafe_b64encode(data + _mac(self._current.secret, kind, scope, data)).rstrip(b"=").decode()

    def _open(self, kind: str, scope: str, token: str) -> bytes | None:
        try:
            data = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (ValueError, BinasciiError):
            return None
        if len(data) <= _HEADER.size + _MAC_BYTES:
            return None
        signed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        version, key_id = _HEADER.unpack_from(signed)
        secret = self._keys.get(key_id)
        if version != _VERSION or secret is None:
            return None
        if not hmac.compare_digest(mac, _mac(secret, kind, scope, signed)):
            return None
        return signed[_HEADER.size :]


def _mac(secret: bytes, kind: str, scope: str, data: bytes) -> bytes:
    return blake2b(f"{kind}:{scope}:".encode() + data, key=secret, digest_size=_MAC_BYTES).digest()
