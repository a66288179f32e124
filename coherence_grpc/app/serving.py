"""`coherence serve`: the backbone in this process, the subgraph in another, one ready line, one end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import uvloop

from coherence_grpc import failpoints
from coherence_grpc.app.backbone import open_backbone
from coherence_grpc.app.listening import check_free
from coherence_grpc.app.subgraph import Subgraph
from coherence_grpc.config import DEFAULT_GRPC
from coherence_grpc.telemetry import configure

if TYPE_CHECKING:
    from coherence_grpc.app.backbone import Backbone
    from coherence_grpc.config import Settings

# Objects made between two looks of the collector; a batch of 1000 signals makes as many.
YOUNG: Final = 10_000
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def serve(settings: Settings, *, as_json: bool = False) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit code: 0 after a drain, 1 when the subgraph ended by itself.

    Prints one line when both halves are ready. A second signal ends everything at once; nothing acknowledged is lost.

    Raises:
        CoherenceError: it can't be started; the message says why and what to do.
    """
    configure(settings.log)
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""), profile=settings.profile)
    return uvloop.run(_serve(settings, as_json=as_json))


async def _serve(settings: Settings, *, as_json: bool) -> int:
    if settings.http is not None:
        check_free("http", settings.http)
    stopping = _stop_on_signals()
    subgraph = Subgraph(settings)
    async with AsyncExitStack() as stack:
        # Also when the backbone can't be opened.
        stack.push_async_callback(subgraph.stop)
        on_bound = subgraph.start if settings.http is not None else (lambda _: None)
        backbone = await stack.enter_async_context(open_backbone(settings, on_bound=on_bound))
        # And before the backbone is closed: it outlives whoever asks it.
        stack.push_async_callback(subgraph.stop)
        backbone.info.http_address = await subgraph.ready()
        _settle()
        _say(_ready_line(settings, backbone, as_json=as_json))
        return await _until_stopped(stopping, subgraph)


async def _until_stopped(stopping: asyncio.Event, subgraph: Subgraph) -> int:
    stopped = asyncio.create_task(stopping.wait())
    ended = asyncio.create_task(subgraph.ended())
    await asyncio.wait((stopped, ended), return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        ended.cancel()
        return 0
    stopped.cancel()
    code = ended.result()
    sys.stderr.write(f"error: the subgraph ended by itself (exit code {code}), so the whole service ends\n")
    return 1


def _settle() -> None:
    """Spare the collector what stays for good, and let it look at the young less often: 10 % less work a call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            # The store survives this as it survives kill -9, and the subgraph notices by its lifeline.
            os._exit(128 + number)
        stopping.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    return stopping


def _ready_line(settings: Settings, backbone: Backbone, *, as_json: bool) -> str:
    grpc_address, http_address, metrics_address = (
        backbone.grpc_address,
        backbone.info.http_address,
        backbone.metrics_address,
    )
    if as_json:
        addresses = {"grpc": grpc_address, "http": http_address or None, "metrics": metrics_address or None}
        return json.dumps(addresses | {"data": str(settings.data), "pid": os.getpid()})
    web = f" · GraphQL http://{http_address}/graphql" if http_address else ""
    elsewhere = "" if grpc_address == DEFAULT_GRPC else f" --address {grpc_address}"
    page = f" · metrics http://{metrics_address}/metrics" if metrics_address else ""
    return (
        f"coherence is ready · gRPC {grpc_address}{web}{page} · data in {settings.data} · "
        f"try: coherence publish --tenant acme --source ci --type build --value 0.9{elsewhere} · Ctrl-C drains"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
