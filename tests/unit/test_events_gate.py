"""The gate by itself: at once when idle, in windows when its readers are slow to come back."""

from __future__ import annotations

import asyncio

import pytest

from coherence_grpc.events.gate import Gate, window
from coherence_grpc.events.ring import Ring
from coherence_grpc.events.runs import Skipped, after_entry
from coherence_grpc.tokens import Cursor
from tests.streams import until

pytestmark = pytest.mark.anyio


class Waiter:
    """A listener that waits until it is woken, and answers when it is told to."""

    def __init__(self, gate: Gate) -> None:
        self.turns: list[int] = []
        self._gate = gate
        gate.members.add(self)

    def wake(self, turn: int) -> bool:
        self.turns.append(turn)
        return True

    def answer(self) -> None:
        self._gate.answered(self.turns[-1])


def grow(ring: Ring) -> None:
    ring.extend([Skipped(ring.tip, after_entry(ring.tip, ring.tip.seq + 1, b""))])


async def machine_time(seconds: float) -> None:
    """Let that much time pass on the machine: how long readers take is what a gate measures."""
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    await until(lambda: loop.time() >= over)


@pytest.fixture
async def ring(anyio_backend: str) -> Ring:
    return Ring(Cursor(1, 0, b"", 1, 0))


async def test_an_idle_gate_opens_at_once(ring: Ring) -> None:
    gate = Gate(ring, 1.0)
    waiter = Waiter(gate)

    grow(ring)
    gate.poke()

    assert (gate.shown, waiter.turns) == (1, [1])


async def test_a_gate_gathers_while_its_readers_have_not_come_back(ring: Ring) -> None:
    gate = Gate(ring, 0.5)
    waiter = Waiter(gate)
    grow(ring)
    gate.poke()

    grow(ring)
    gate.poke()
    grow(ring)
    gate.poke()
    before = gate.shown
    await until(lambda: gate.shown == 3)

    assert before == 1
    assert waiter.turns == [1, 2]


async def test_a_gate_never_gathers_for_longer_than_its_window(ring: Ring) -> None:
    gate = Gate(ring, 0.01)
    slow = Waiter(gate)
    grow(ring)
    gate.poke()
    await machine_time(0.2)
    slow.answer()
    grow(ring)
    gate.poke()

    begun = asyncio.get_running_loop().time()
    grow(ring)
    gate.poke()
    await until(lambda: gate.shown == 3)

    assert asyncio.get_running_loop().time() - begun < 0.2


async def test_a_gate_without_a_window_opens_for_every_event(ring: Ring) -> None:
    gate = Gate(ring, 0.0)
    waiter = Waiter(gate)

    for _ in range(3):
        grow(ring)
        gate.poke()

    assert waiter.turns == [1, 2, 3]


async def test_readers_that_are_slow_to_come_back_don_t_hold_up_the_quick_half(ring: Ring) -> None:
    gate = Gate(ring, 1.0)
    quick, _slow = Waiter(gate), Waiter(gate)
    grow(ring)
    gate.poke()
    quick.answer()
    await machine_time(0.01)

    grow(ring)
    gate.poke()

    assert gate.shown == 2


@pytest.mark.parametrize(("wanted", "used"), [(0.0, 0.0), (0.005, 0.0), (0.1, 0.1), (0.15, 0.1), (1.0, 1.0)])
def test_a_window_is_rounded_down_to_one_of_a_few(wanted: float, used: float) -> None:
    assert window(wanted) == used
