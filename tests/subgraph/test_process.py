"""`python -m subgraph`: ready, drained, orphaned."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.subgraph.running import Running, event_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

WITHIN_S: Final = 15.0


@dataclass(slots=True)
class Child:
    """A subgraph process and our end of its lifeline."""

    process: asyncio.subprocess.Process
    lifeline: int
    http: str

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await self.process.wait()


@asynccontextmanager
async def child_of(grpc: str) -> AsyncIterator[Child]:
    theirs, ours = os.pipe()
    ready, told = os.pipe()
    environment = {
        **os.environ,
        "COHERENCE_GRPC": grpc,
        "COHERENCE_HTTP": "127.0.0.1:0",
        "COHERENCE_LIFELINE_FD": str(theirs),
        "COHERENCE_READY_FD": str(told),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "subgraph", env=environment, pass_fds=(theirs, told)
    )
    os.close(theirs)
    os.close(told)
    try:
        with os.fdopen(ready) as lines:
            line = await asyncio.to_thread(lines.readline)
        yield Child(process, ours, json.loads(line)["http"])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


@asynccontextmanager
async def at(subgraph: Running, child: Child) -> AsyncIterator[Running]:
    async with httpx.AsyncClient(base_url=f"http://{child.http}", trust_env=False, timeout=WITHIN_S) as http:
        yield Running(subgraph.subgraph, child.http, subgraph.grpc, http)


@pytest.mark.slow
async def test_on_sigterm_it_ends_subscriptions_with_a_cursor_and_finishes(subgraph: Running, tenant: str) -> None:
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}
    async with child_of(subgraph.grpc) as child, at(subgraph, child) as found:
        async with event_stream(found, body) as events:
            await found.publish(tenant, signal_id="seen")
            _, position, _ = await events.next()
            child.process.send_signal(signal.SIGTERM)
            _, _, said = await events.next()
            assert (await events.next())[0] == "complete"

        assert await child.ended() == 0
    extensions = said["errors"][0]["extensions"]
    assert (extensions["code"], extensions["reason"]) == ("SERVICE_UNAVAILABLE", "DRAINING")
    assert extensions["resumeCursor"] == position
    assert extensions["retryAfterMs"] == 1000

    await subgraph.publish(tenant, signal_id="missed")
    resumed = {**body, "variables": {"tenantId": tenant, "after": extensions["resumeCursor"]}}
    async with event_stream(subgraph, resumed) as events:
        _, _, said = await events.next()
    assert said["data"]["coherenceEvents"]["signalId"] == "missed"


@pytest.mark.slow
async def test_it_goes_when_its_parent_goes(subgraph: Running, tenant: str) -> None:
    async with child_of(subgraph.grpc) as child, at(subgraph, child) as found:
        body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}
        async with event_stream(found, body):
            os.close(child.lifeline)
            child.lifeline = os.open(os.devnull, os.O_RDONLY)

            assert await child.ended() == 0


@pytest.mark.slow
async def test_a_taken_address_and_a_bad_variable_are_named_in_one_line(subgraph: Running) -> None:
    for address, code, words in ((subgraph.address, 1, "can't listen on"), ("nowhere", 2, "COHERENCE_HTTP")):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "subgraph",
            env={**os.environ, "COHERENCE_HTTP": address, "COHERENCE_GRPC": subgraph.grpc},
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN_S):
            _, said = await process.communicate()

        assert (process.returncode, said.count(b"\n")) == (code, 1)
        assert words in said.decode()
