"""What the subgraph process is told: its environment, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_GRPC: Final = "127.0.0.1:50051"
DEFAULT_HTTP: Final = "127.0.0.1:4000"
PROFILES: Final = ("dev", "prod")
LEVELS: Final = ("debug", "info", "warning")
HIGHEST_PORT: Final = 65_535


class ConfigInvalid(ValueError):
    """A variable can't be used; the message names it and the remedy. Raised at start only."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where the backbone is, where to listen, and whose child this process is.

    `lifeline_fd` is the read end of a pipe that the parent holds open: its end ends this process. On `ready_fd` one
    JSON line says where the server listens. Both are None when nobody started us.
    """

    grpc: str = DEFAULT_GRPC
    host: str = "127.0.0.1"
    port: int = 4000
    lifeline_fd: int | None = None
    ready_fd: int | None = None
    profile: str = "dev"
    log_level: str = "info"

    @property
    def dev(self) -> bool:
        """What only developers get is there."""
        return self.profile == "dev"


def read_config(environment: Mapping[str, str]) -> Config:
    """The configuration in these variables.

    Raises:
        ConfigInvalid: one of them can't be used.
    """
    host, port = _address(environment.get("COHERENCE_HTTP") or DEFAULT_HTTP)
    return Config(
        grpc=environment.get("COHERENCE_GRPC") or DEFAULT_GRPC,
        host=host,
        port=port,
        lifeline_fd=_descriptor(environment, "COHERENCE_LIFELINE_FD"),
        ready_fd=_descriptor(environment, "COHERENCE_READY_FD"),
        profile=_one_of(environment, "COHERENCE_PROFILE", PROFILES, "dev"),
        log_level=_one_of(environment, "COHERENCE_LOG", LEVELS, "info"),
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > HIGHEST_PORT:
        message = f"COHERENCE_HTTP is {text!r}: give host:port, such as {DEFAULT_HTTP} (port 0 takes a free one)"
        raise ConfigInvalid(message)
    return host.strip("[]"), int(port)


def _descriptor(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if text and not text.isdecimal():
        message = f"{name} is {text!r}: give the number of an inherited file descriptor, or leave it out"
        raise ConfigInvalid(message)
    return int(text) if text else None


def _one_of(environment: Mapping[str, str], name: str, words: tuple[str, ...], default: str) -> str:
    word = environment.get(name) or default
    if word not in words:
        message = f"{name} is {word!r}: give one of {', '.join(words)}"
        raise ConfigInvalid(message)
    return word
