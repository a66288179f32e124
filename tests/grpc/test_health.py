from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from coherence.v1 import meta_pb2
from coherence_grpc.app import backbone, listening, open_backbone
from coherence_grpc.client import connect
from coherence_grpc.config import SWITCHES, load_settings
from coherence_grpc.convert.instants import microseconds
from coherence_grpc.errors import DataRefused, SettingsInvalid
from tests.builders import NOON
from tests.faults import eventually
from tests.grpc.running import a_signal, refused, world

if TYPE_CHECKING:
    from pathlib import Path

    from grpc.aio import UnaryStreamMultiCallable, UnaryUnaryMultiCallable

    from coherence_grpc.config import Settings
    from coherence_grpc.ports import SignalStore
    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


async def test_every_service_has_its_own_health(served: World) -> None:
    for service in ("", *listening.SERVICES):
        reply = await served.client.health.Check(HealthCheckRequest(service=service))
        assert reply.status == SERVING

    refusal = await refused(served.client.health.Check(HealthCheckRequest(service="nothing")))
    assert refusal.code == "NOT_FOUND"


async def test_without_its_store_ingest_is_not_serving_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = asyncio.Event()

    async def there(_signals: SignalStore) -> bool:
        return not away.is_set()

    monkeypatch.setattr(listening, "LOOK_S", 0.01)
    monkeypatch.setattr(backbone, "_there", there)
    async with world(tmp_path) as served:

        async def health(service: str) -> HealthCheckResponse.ServingStatus:
            reply = await served.client.health.Check(HealthCheckRequest(service=service))
            status: HealthCheckResponse.ServingStatus = reply.status
            return status

        away.set()
        await eventually(lambda: health(backbone.INGEST), lambda status: status == NOT_SERVING)
        assert [await health(name) for name in ("", "coherence.v1.ScoreService")] == [SERVING, SERVING]

        away.clear()
        await eventually(lambda: health(backbone.INGEST), lambda status: status == SERVING)


async def test_a_watcher_of_the_health_hears_of_the_end_before_the_connection_goes(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path, "grpc": "127.0.0.1:0"}, {})
    async with AsyncExitStack() as watcher:
        async with open_backbone(settings) as served:
            client = await watcher.enter_async_context(connect(served.grpc_address))
            watch = aiter(client.health.Watch(HealthCheckRequest()))
            heard = [(await anext(watch)).status]
        heard.append((await anext(watch)).status)
        refusal = await refused(anext(watch))

    assert heard == [SERVING, NOT_SERVING]
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")


async def test_undecodable_health_checks_are_an_invalid_argument(served: World) -> None:
    check: UnaryUnaryMultiCallable[bytes, bytes]
    check = served.client.channel.unary_unary("/grpc.health.v1.Health/Check")
    watch: UnaryStreamMultiCallable[bytes, bytes]
    watch = served.client.channel.unary_stream("/grpc.health.v1.Health/Watch")

    assert (await refused(check(b"\xff\xff"))).code == "INVALID_ARGUMENT"
    assert (await refused(anext(aiter(watch(b"\xff\xff"))))).code == "INVALID_ARGUMENT"


async def test_reflection_is_there_for_developers(tmp_path: Path) -> None:
    async with world(tmp_path, profile="dev") as served:
        names = await reflected(served)

    assert set(listening.SERVICES) < set(names)


async def test_reflection_is_not_there_in_production(tmp_path: Path) -> None:
    async with world(tmp_path, profile="prod") as served:
        refusal = await refused(reflected(served))

    assert refusal.code == "UNIMPLEMENTED"


async def reflected(served: World) -> list[str]:
    stub = ServerReflectionStub(served.client.channel)  # type: ignore[no-untyped-call]  # grpc_reflection has no types
    replies = stub.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    return [service.name async for reply in replies for service in reply.list_services_response.service]


async def test_the_server_says_what_it_is(served: World) -> None:
    await served.publish(a_signal(ts=NOON - 1), a_signal(ts=NOON))

    info = await served.client.meta.GetServerInfo(meta_pb2.GetServerInfoRequest())

    assert info.version
    assert info.profile == "dev"
    assert (info.limits.max_batch_signals, info.limits.max_batch_bytes) == (1000, 1 << 20)
    assert (microseconds(info.clock.now_time), info.clock.simulated) == (NOON, True)
    assert [(part.role, part.name) for part in info.engines] == [
        ("signals", "embedded"),
        ("scores", "embedded"),
        ("policy", "local"),
    ]
    switches = {switch.name: switch.value for switch in info.switches}
    assert switches == {name: switch.default for name, switch in SWITCHES.items()}
    assert (info.tenant_count, info.entry_count) == (1, 2)
    assert microseconds(info.oldest_signal_time) == NOON - 1
    assert not info.runtime_hash


async def test_a_turned_switch_is_told_with_the_hash_of_the_file(served: World) -> None:
    served.turn(free_text="on")

    info = await served.client.meta.GetServerInfo(meta_pb2.GetServerInfoRequest())

    assert {switch.name: switch.value for switch in info.switches}["free_text"] == "on"
    assert len(info.runtime_hash) == 64


async def test_a_second_server_on_the_same_address_or_directory_is_refused(served: World, tmp_path: Path) -> None:
    same_address = load_settings({"data": tmp_path / "other", "grpc": served.backbone.grpc_address}, {})
    same_directory = load_settings({"data": served.data, "grpc": "127.0.0.1:0"}, {})

    with pytest.raises(SettingsInvalid, match="Address already in use"):
        await opened(same_address)
    with pytest.raises(DataRefused, match="in use by another process"):
        await opened(same_directory)


async def opened(settings: Settings) -> None:
    async with open_backbone(settings):
        pass


async def test_an_error_while_it_serves_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="from within"):
        await failing(tmp_path)


async def failing(data: Path) -> None:
    async with world(data):
        message = "from within"
        raise SettingsInvalid(message)


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        await first.publish(a_signal(value=0.3, ts=NOON))

    async with world(tmp_path) as second:
        score = await second.score()

    assert (score.score, score.as_of_seq) == (0.3, 1)
