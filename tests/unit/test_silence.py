"""Which calls end when a server says nothing, and which are left alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.errors import SettingsInvalid, StoreDown, StoreTimeout
from coherence_grpc.silence import Watch
from tests.faults import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PATIENT_S: Final = 0.01
ANSWER_S: Final = 0.04


class Server:
    """Answers what it is asked, or says nothing."""

    def __init__(self) -> None:
        self.silent = False
        self.refusal: Exception | None = None
        self.asked = 0
        self.found_silent = 0
        self._answered = asyncio.Event()

    async def ask(self) -> None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        if self.silent:
            await self._answered.wait()

    def answer(self) -> None:
        self.silent = False
        self._answered.set()

    def note(self) -> None:
        self.found_silent += 1


class Call:
    """A call that waits until it is given up."""

    def __init__(self, watch: Watch) -> None:
        self.given_up = False
        self._watch = watch
        self._end = asyncio.Event()
        self._task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        with self._watch.over(self._give_up):
            await self._end.wait()

    def _give_up(self) -> None:
        self.given_up = True
        self._end.set()

    async def end(self) -> None:
        self._end.set()
        await self._task


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def watch(server: Server) -> AsyncIterator[Watch]:
    watch = Watch(server.ask, server.note, patient_s=PATIENT_S, answer_s=ANSWER_S)
    yield watch
    await watch.close()


async def test_calls_of_a_silent_server_end(server: Server, watch: Watch) -> None:
    server.silent = True
    calls = [Call(watch) for _ in range(3)]

    await until(lambda: all(call.given_up for call in calls))

    assert (server.asked, server.found_silent) == (1, 1)


async def test_a_slow_call_of_a_server_that_answers_is_left_alone(server: Server, watch: Watch) -> None:
    call = Call(watch)

    await until(lambda: server.asked >= 3)

    assert not call.given_up
    await call.end()


async def test_a_server_that_falls_silent_later_is_found_out(server: Server, watch: Watch) -> None:
    call = Call(watch)
    await until(lambda: server.asked >= 2)

    server.silent = True

    await until(lambda: call.given_up)


async def test_quick_calls_ask_nothing(server: Server, watch: Watch) -> None:
    for _ in range(50):
        with watch.over(lambda: None):
            await asyncio.sleep(0)
    slow = Call(watch)
    await asyncio.sleep(0)
    await slow.end()

    await asyncio.sleep(2 * PATIENT_S)

    assert server.asked == 0


async def test_a_call_that_began_after_the_question_ends_with_the_others(server: Server, watch: Watch) -> None:
    server.silent = True
    old = Call(watch)
    await until(lambda: server.asked == 1)
    new = Call(watch)

    await until(lambda: old.given_up)

    assert new.given_up
    assert server.found_silent == 1


async def test_a_server_that_ends_another_call_meanwhile_is_not_silent(server: Server, watch: Watch) -> None:
    server.silent = True
    slow = Call(watch)
    for _ in range(20):
        await until(lambda: server.asked >= 1)
        with watch.over(lambda: None):
            await asyncio.sleep(ANSWER_S / 10)

    assert not slow.given_up
    await slow.end()


async def test_a_late_answer_is_waited_for_so_that_the_next_call_is_left_alone(server: Server, watch: Watch) -> None:
    server.silent = True
    first = Call(watch)
    await until(lambda: first.given_up)

    second = Call(watch)
    await asyncio.sleep(2 * PATIENT_S)
    server.answer()

    await until(lambda: server.asked == 2)
    assert not second.given_up
    await second.end()


async def test_nobody_there_is_silence_at_once(server: Server, watch: Watch) -> None:
    server.refusal = StoreDown("away")
    call = Call(watch)

    await until(lambda: call.given_up)

    assert server.found_silent == 1


@pytest.mark.parametrize("refusal", [StoreTimeout("busy"), SettingsInvalid("not you")])
async def test_any_other_refusal_is_an_answer(server: Server, watch: Watch, refusal: Exception) -> None:
    server.refusal = refusal
    call = Call(watch)

    await until(lambda: server.asked >= 2)

    assert not call.given_up
    await call.end()


async def test_a_call_that_fails_is_watched_no_more(server: Server, watch: Watch) -> None:
    given_up: list[bool] = []
    with suppress(ValueError), watch.over(lambda: given_up.append(True)):
        raise ValueError
    server.silent = True
    other = Call(watch)

    await until(lambda: other.given_up)

    assert not given_up


async def test_a_closed_watch_leaves_no_task(server: Server) -> None:
    watch = Watch(server.ask, server.note, patient_s=PATIENT_S, answer_s=10)
    server.silent = True
    call = Call(watch)
    await until(lambda: server.asked == 1)

    await watch.close()

    assert not call.given_up
    assert server.found_silent == 0
    await call.end()
