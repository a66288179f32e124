"""Policies as a use case, on a real log."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.errors import EtagMismatch, OutcomeUnknown, RequestIdReused, ScorePolicyUnknown
from coherence_grpc.materialize import Policies, PolicyChange
from coherence_grpc.materialize.policies import ATTEMPTS
from coherence_grpc.model import DAY, SECOND, EntryKind
from coherence_grpc.policy import DEFAULT, DEFAULT_ETAG, ScorePolicy
from coherence_grpc.replies import etag_mismatch
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_write, fresh
from tests.faults import InterposedSignals
from tests.streams import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from coherence_grpc.model import Entry, Head
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import SignalStore

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND


class World:
    """The use case on a log that can be held up, and the entries that it told of."""

    def __init__(self, store: SignalStore) -> None:
        self.signals = InterposedSignals(store)
        self.told: list[tuple[str, int]] = []
        self.policies = Policies(self.signals.port, ManualClock(), new_id=lambda _: fresh("id"), on_change=(self.tell,))

    def tell(self, tenant_id: str, seq: int) -> None:
        self.told.append((tenant_id, seq))

    async def update(
        self,
        rules: Mapping[str, object],
        *,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
        timeout_s: float = 5.0,
    ) -> PolicyVersion:
        """Change these rules."""
        change = PolicyChange(TENANT, a_policy(rules), frozenset(rules), etag, request_id, validate_only=validate_only)
        version, _ = await self.policies.update(change, a_caller(principal="ada"), timeout_s=timeout_s)
        return version

    async def recompute(self, request_id: str = "") -> tuple[Entry, Head]:
        return await self.policies.recompute(TENANT, request_id, a_caller(), timeout_s=5.0)

    async def in_force(self) -> PolicyVersion:
        version, _ = await self.policies.get(TENANT)
        return version

    async def kinds(self) -> list[EntryKind]:
        return [entry.kind for entry in await self.signals.port.tail(TENANT, after=0, limit=1000)]


def a_policy(rules: Mapping[str, object], base: ScorePolicy = DEFAULT) -> ScorePolicy:
    values: dict[str, Any] = dict(rules)
    return replace(base, **values)


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    async with open_signal_store(directory, ManualClock()) as store:
        world = World(store)
        async with world.policies:
            try:
                yield world
            finally:
                world.signals.release()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_tenant_without_a_policy_has_the_default_rules(world: World) -> None:
    version, head = await world.policies.get(TENANT)

    assert (version.policy, version.etag, version.seq, head.seq) == (DEFAULT, DEFAULT_ETAG, 0, 0)


async def test_a_change_is_an_entry_of_the_log_and_the_policy_from_then_on(world: World) -> None:
    await world.signals.append([a_write()], now=NOON)

    changed = await world.update({"hysteresis_ppm": 20_000, "dwell_us": HOUR})

    assert changed.policy == ScorePolicy(hysteresis_ppm=20_000, dwell_us=HOUR)
    assert (changed.seq, await world.in_force()) == (2, changed)
    assert await world.kinds() == [EntryKind.STORED, EntryKind.POLICY]
    assert world.told == [(TENANT, 2)]


async def test_a_change_leaves_what_it_does_not_name(world: World) -> None:
    await world.update({"healthy_ppm": 800_000, "minimum_signals": 3})

    changed = await world.update({"minimum_signals": 1})

    assert changed.policy == ScorePolicy(healthy_ppm=800_000)


async def test_of_two_changes_on_one_etag_the_second_is_refused_and_told_the_current_one(world: World) -> None:
    first = await world.update({"hysteresis_ppm": 1}, etag=DEFAULT_ETAG)

    with pytest.raises(EtagMismatch) as refused:
        await world.update({"hysteresis_ppm": 2}, etag=DEFAULT_ETAG)

    assert refused.value.metadata == {"etag": first.etag}
    assert await world.in_force() == first
    assert world.told == [(TENANT, 1)]


@pytest.mark.parametrize("etag", ["1-0123456789abcdef", "nonsense", "ffffffffffffffffffff-00", "0-00", "-1-00"])
async def test_an_etag_that_never_was_is_refused_and_told_the_current_one(world: World, etag: str) -> None:
    first = await world.update({"hysteresis_ppm": 1})

    with pytest.raises(EtagMismatch) as refused:
        await world.update({"hysteresis_ppm": 2}, etag=etag)
    with pytest.raises(ScorePolicyUnknown):
        await world.policies.get(TENANT, etag)

    assert refused.value.metadata == {"etag": first.etag}


@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_stale_etag_is_refused_though_nothing_would_be_written(world: World, validate_only: bool) -> None:
    first = await world.update({"hysteresis_ppm": 1})
    await world.update({"hysteresis_ppm": 2})

    with pytest.raises(EtagMismatch):
        await world.update({"hysteresis_ppm": 1}, etag=first.etag, validate_only=validate_only)

    assert len(world.told) == 2


async def test_changes_at_once_without_an_etag_are_all_made(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(world.update({"hysteresis_ppm": 7}))
        group.create_task(world.update({"minimum_signals": 7}))
        group.create_task(world.update({"dwell_us": HOUR}))

    version = await world.in_force()
    assert version.policy == ScorePolicy(hysteresis_ppm=7, minimum_signals=7, dwell_us=HOUR)
    assert version.seq == 3


async def test_a_change_that_is_always_overtaken_ends_with_the_mismatch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[object] = []

    async def overtaken(*_: object, based_on: int, **__: object) -> Entry:
        attempts.append(based_on)
        raise etag_mismatch(TENANT, "another")

    monkeypatch.setattr(world.signals, "append_own", overtaken, raising=False)

    with pytest.raises(EtagMismatch):
        await world.update({"hysteresis_ppm": 7})

    assert attempts == [0] * ATTEMPTS


async def test_a_change_that_changes_nothing_writes_nothing_and_keeps_the_etag(world: World) -> None:
    first = await world.update({"hysteresis_ppm": 1})

    again = await world.update({"hysteresis_ppm": 1})
    none = await world.update({})

    assert (again, none) == (first, first)
    assert world.told == [(TENANT, 1)]


async def test_the_default_rules_set_explicitly_are_no_change(world: World) -> None:
    version = await world.update({"hysteresis_ppm": 0, "window_us": DAY})

    assert (version.etag, world.told) == (DEFAULT_ETAG, [])


async def test_going_back_to_the_defaults_is_a_version_of_its_own(world: World) -> None:
    await world.update({"hysteresis_ppm": 1})

    back = await world.update({"hysteresis_ppm": 0})

    assert (back.policy, back.seq) == (DEFAULT, 2)
    assert back.etag != DEFAULT_ETAG


async def test_validate_only_answers_with_what_would_be_and_writes_nothing(world: World) -> None:
    would_be = await world.update({"hysteresis_ppm": 1}, validate_only=True)

    assert (would_be.policy, would_be.etag, would_be.seq) == (ScorePolicy(hysteresis_ppm=1), "", 0)
    assert (await world.in_force()).etag == DEFAULT_ETAG
    assert world.told == []


async def test_validate_only_of_no_change_answers_with_the_version_in_force(world: World) -> None:
    first = await world.update({"hysteresis_ppm": 1})

    assert await world.update({"hysteresis_ppm": 1}, validate_only=True) == first


async def test_a_retry_gets_the_first_reply_though_others_followed(world: World) -> None:
    first = await world.update({"hysteresis_ppm": 1}, etag=DEFAULT_ETAG, request_id="r-1")
    await world.update({"hysteresis_ppm": 2})

    again = await world.update({"hysteresis_ppm": 1}, etag=DEFAULT_ETAG, request_id="r-1")

    assert again == first
    assert (await world.in_force()).policy.hysteresis_ppm == 2


async def test_a_retry_whose_change_is_in_force_anyway_gets_the_first_reply(world: World) -> None:
    first = await world.update({"hysteresis_ppm": 1}, request_id="r-1")
    await world.update({"minimum_signals": 2})

    assert await world.update({"hysteresis_ppm": 1}, request_id="r-1") == first


async def test_a_request_id_of_another_change_is_refused(world: World) -> None:
    await world.update({"hysteresis_ppm": 1}, request_id="r-1")

    others: list[dict[str, object]] = [{"hysteresis_ppm": 2}, {"minimum_signals": 1, "hysteresis_ppm": 1}]
    for rules in others:
        with pytest.raises(RequestIdReused):
            await world.update(rules, request_id="r-1")

    assert len(world.told) == 1


async def test_a_request_id_of_signals_is_refused(world: World) -> None:
    await world.signals.append([a_write(request_id="r-1")], now=NOON)

    with pytest.raises(RequestIdReused):
        await world.update({"hysteresis_ppm": 1}, request_id="r-1")


async def test_a_change_says_who_made_it_and_how(world: World) -> None:
    version = await world.update({"hysteresis_ppm": 1}, request_id="r-1")

    record = await world.signals.provenance(TENANT, version.provenance_id)

    assert record is not None
    assert (record.principal, record.transport, record.request_id) == ("ada", "grpc", "r-1")


async def test_versions_come_newest_first_and_each_can_be_read_by_its_etag(world: World) -> None:
    made = [await world.update({"hysteresis_ppm": ppm}) for ppm in (1, 2, 3)]

    listed = await world.policies.versions(TENANT, before=None, limit=2)
    rest = await world.policies.versions(TENANT, before=listed[-1].seq, limit=2)

    assert [*listed, *rest] == made[::-1]
    assert [(await world.policies.get(TENANT, version.etag))[0] for version in made] == made
    assert (await world.policies.get(TENANT, DEFAULT_ETAG))[0].policy == DEFAULT


async def test_a_change_is_made_and_told_though_its_caller_has_gone(world: World) -> None:
    world.signals.hold("append_own")
    caller = asyncio.create_task(world.update({"hysteresis_ppm": 1}))
    await until(lambda: world.signals.calls["append_own"] == 1)

    caller.cancel()
    await asyncio.wait([caller])
    world.signals.release()
    await world.policies.__aexit__()

    assert caller.cancelled()
    assert world.told == [(TENANT, 1)]


async def test_of_a_change_that_takes_too_long_nobody_knows_until_it_is_sent_again(world: World) -> None:
    world.signals.hold("append_own")

    with pytest.raises(OutcomeUnknown) as refused:
        await world.update({"hysteresis_ppm": 1}, request_id="r-1", timeout_s=0.01)
    world.signals.release()
    again = await world.update({"hysteresis_ppm": 1}, request_id="r-1")

    assert refused.value.metadata == {"outcome": "unknown"}
    assert (again.seq, again.policy.hysteresis_ppm) == (1, 1)


async def test_who_fails_to_follow_a_change_does_not_keep_the_others_from_it(world: World) -> None:
    def fails(_tenant_id: str, _seq: int) -> None:
        message = "a fault"
        raise RuntimeError(message)

    policies = Policies(world.signals.port, ManualClock(), new_id=lambda _: fresh("id"), on_change=(fails, world.tell))

    await policies.recompute(TENANT, "", a_caller(), timeout_s=5.0)

    assert world.told == [(TENANT, 1)]


async def test_to_recompute_is_an_entry_and_a_retry_gets_the_same(world: World) -> None:
    first, head = await world.recompute("r-1")
    await world.recompute()
    again, _ = await world.recompute("r-1")

    assert await world.kinds() == [EntryKind.RECOMPUTE, EntryKind.RECOMPUTE]
    assert (first.seq, head.seq, head.head_hash, again.seq) == (1, 1, first.head_hash, 1)


changes = st.fixed_dictionaries(
    {},
    optional={
        "hysteresis_ppm": st.integers(0, 2),
        "minimum_signals": st.integers(1, 3),
        "dwell_us": st.integers(0, 2),
    },
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(changes, st.integers(0, 4)), max_size=12))
def test_any_sequence_of_changes_and_retries_amounts_to_the_first_of_each(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[dict[str, int], int]]
) -> None:
    async def play() -> None:
        replies: dict[int, tuple[Mapping[str, object], PolicyVersion]] = {}
        expected = DEFAULT
        async with open_world(tmp_path_factory.mktemp("log")) as world:
            for rules, request in steps:
                known = replies.get(request)
                if known is not None:
                    # A retry repeats what it asked for at first.
                    assert await world.update(known[0], request_id=f"r-{request}") == known[1]
                    continue
                reply = await world.update(rules, request_id=f"r-{request}")
                if a_policy(rules, expected) != expected:
                    replies[request] = (rules, reply)
                expected = a_policy(rules, expected)
                assert reply.policy == expected
            assert (await world.in_force()).policy == expected

    asyncio.run(play())
