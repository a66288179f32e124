"""What callers are told of the errors that the driver of Neo4j lets through from below."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from coherence_grpc.adapters.neo4j.failures import FAILURES, refusal_of
from coherence_grpc.errors import StoreDown


def test_r11_a_connection_reset_before_it_is_written_to_is_a_server_that_is_away() -> None:
    with pytest.raises(FAILURES) as written:
        uvloop.run(_write_to_a_closed_connection())

    assert isinstance(written.value, RuntimeError)
    assert isinstance(refusal_of(written.value), StoreDown)


def test_another_fault_of_the_program_is_not_put_down_to_the_server() -> None:
    assert refusal_of(RuntimeError("dictionary changed size during iteration")) is None


async def _write_to_a_closed_connection() -> None:
    near, far = socket.socketpair()
    with far:
        _, writer = await asyncio.open_connection(sock=near)
        writer.transport.abort()
        # The loop closes it in its next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.write(b"a request")
