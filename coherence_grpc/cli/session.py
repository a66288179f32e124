"""A command's connection to the backbone, and the options every command shares."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.config import DEFAULT_GRPC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from google.rpc.status_pb2 import Status

    from coherence_grpc.client import Client, Refusal

_Params = ParamSpec("_Params")
_Value = TypeVar("_Value")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
address_option = click.option(
    "--address",
    envvar="COHERENCE_GRPC",
    default=DEFAULT_GRPC,
    show_default=True,
    show_envvar=True,
    metavar="HOST:PORT",
    help="The server's gRPC address.",
)


def asynchronous(command: Callable[_Params, Coroutine[Any, Any, _Value]]) -> Callable[_Params, _Value]:
    """The command as click calls it: on an event loop of its own."""

    @wraps(command)
    def run(*args: _Params.args, **kwargs: _Params.kwargs) -> _Value:
        return asyncio.run(command(*args, **kwargs))

    return run


@asynccontextmanager
async def session(address: str, *, transport: str = "grpc") -> AsyncIterator[Client]:
    """A client of the server; a call that it refuses, or that can't reach it, ends the command as a Failure."""
    import grpc.aio

    from coherence_grpc.cli.failure import refused
    from coherence_grpc.client import Refused, connect, refusal_of

    check_address(address)
    try:
        async with connect(address, transport=transport) as client:
            yield client
    except grpc.aio.AioRpcError as error:
        raise refused(refusal_of(error), address) from None
    except Refused as error:
        raise refused(error.refusal, address) from None


def check_address(address: str) -> None:
    """Fail unless the address is one that a channel can be made for."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or (host and port.isdecimal() and 0 < int(port) < 65_536):  # noqa: PLR2004 - ports
        return
    message = f"the address {address!r} is not host:port"
    raise Failure(message, f"write it like {DEFAULT_GRPC}", exit_code=USAGE)


def refusal_in(status: Status) -> Refusal:
    """The refusal of one item of a batch."""
    from coherence_grpc.client import refusal_of_status

    return refusal_of_status(status)
