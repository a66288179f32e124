"""Who calls, and over what kind of channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio

from coherence_grpc.client.policy import CHANNEL_OPTIONS

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

Pairs: TypeAlias = Sequence[tuple[str, str | bytes]]
Token: TypeAlias = str | Callable[[], str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class TLS:
    """What a channel is secured with, each as PEM or the path of a file with it.

    `ca` is who the server must be vouched for by (default: whom the machine trusts); `cert` and `key` are what the
    client shows.
    """

    ca: bytes | Path | None = None
    cert: bytes | Path | None = None
    key: bytes | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes them."""
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


class Identity:
    """The metadata that goes with every call; a token that is a function is asked for anew each time."""

    def __init__(self, token: Token, pairs: Pairs) -> None:
        self._token = token
        self.fixed: Pairs = (*pairs, *([_bearer(token)] if token and not callable(token) else []))

    @property
    def renewable(self) -> bool:
        """A token that has expired can be replaced."""
        return callable(self._token)

    async def metadata(self) -> Pairs:
        """For one call."""
        if not callable(self._token):
            return self.fixed
        token = self._token()
        return (*self.fixed, _bearer(token if isinstance(token, str) else await token))


def open_channel(address: str, tls: TLS | None) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    """A channel that connects with its first call and closes on leaving."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, tls.credentials(), options=CHANNEL_OPTIONS)


def _bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def _pem(given: bytes | Path | None) -> bytes | None:
    return given.read_bytes() if isinstance(given, Path) else given
