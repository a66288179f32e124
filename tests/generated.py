"""Policies and signals at random, on a coarse grid of instants and values so that bounds and ties are met often."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from coherence_grpc.model import GENESIS, QUANTUM, SECOND, Head, Item, Status
from coherence_grpc.policy import ScorePolicy, Veto
from coherence_grpc.ports import Group, WindowColumns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

TYPES: Final = ("build", "deploy", "incident")
SOURCES: Final = ("ci", "pager", "probe")
VALUES: Final = (
    0,
    1,
    250_000_000,
    480_000_000,
    500_000_000,
    520_000_000,
    730_000_000,
    750_000_000,
    770_000_000,
    QUANTUM,
)
WEIGHTS: Final = (0, 1, QUANTUM // 2, QUANTUM, QUANTUM, QUANTUM, 3 * QUANTUM, 1000 * QUANTUM)
FACTORS: Final = (0, 1, 500_000, 2_000_000, 1_000_000_000)
WINDOWS: Final = (60 * SECOND, 3600 * SECOND, 86_400 * SECOND)
MARKS: Final = 16


def a_policy(random: Random, *, plain: bool = False) -> ScorePolicy:
    """Rules at random; `plain` leaves out those that tell signals apart."""
    window = random.choice(WINDOWS)
    warn, healthy = sorted(random.choice(((500_000, 750_000), (0, 1_000_000), (480_000, 480_000))))
    rules = ScorePolicy(
        window_us=window,
        healthy_ppm=healthy,
        warn_ppm=warn,
        hysteresis_ppm=random.choice((0, 0, 20_000, 30_000, 500_000)),
        dwell_us=random.choice((0, 0, 1, window // 8, window // 3, 2 * window)),
        minimum_signals=random.choice((1, 1, 2, 4)),
        stale_after_us=random.choice((None, None, window // 8, window // 3 + 1, window)),
    )
    return rules if plain else _told_apart(random, rules)


def _told_apart(random: Random, rules: ScorePolicy) -> ScorePolicy:
    window = rules.window_us
    vetoes = {(random.choice(TYPES), random.choice((Status.WARN, Status.CRITICAL))) for _ in range(random.randrange(3))}
    weighted = random.sample(TYPES, random.randrange(3))
    return ScorePolicy(
        window_us=window,
        healthy_ppm=rules.healthy_ppm,
        warn_ppm=rules.warn_ppm,
        hysteresis_ppm=rules.hysteresis_ppm,
        dwell_us=rules.dwell_us,
        minimum_signals=rules.minimum_signals,
        stale_after_us=rules.stale_after_us,
        half_life_us=random.choice((None, -(-window // 64), window // 7, window, 20 * window)),
        vetoes=tuple(Veto(type_, random.choice(VALUES[2:]), cap) for type_, cap in sorted(vetoes)),
        type_weights=tuple((type_, random.choice(FACTORS)) for type_ in sorted(weighted)),
        source_cap_ppm=random.choice((None, None, 10_000, 333_333, 500_000, 1_000_000)),
    )


def an_instant(random: Random, begin: int, window_us: int) -> int:
    """One of a few instants within two windows of `begin`, or a microsecond beside one."""
    return begin + random.randrange(2 * MARKS) * window_us // MARKS + random.choice((-1, 0, 0, 1))


def an_item(random: Random, ts: int, signal_id: str) -> Item:
    """A signal of that instant."""
    return Item(
        random.choice(SOURCES),
        signal_id,
        random.choice(TYPES),
        random.choice(VALUES) if random.randrange(4) else random.randrange(QUANTUM + 1),
        random.choice(WEIGHTS) if random.randrange(4) else random.randrange(1000 * QUANTUM),
        ts,
    )


def items_from(random: Random, begin: int, window_us: int, *, most: int = 12) -> list[Item]:
    """Some signals within two windows of `begin`."""
    return [an_item(random, an_instant(random, begin, window_us), f"s{n}") for n in range(random.randrange(most + 1))]


def columns_of(items: Sequence[Item], *, grouped: bool) -> WindowColumns:
    """The signals as a store hands them out."""
    weighted = sorted((item for item in items if item.weight_q), key=lambda item: item.ts)
    groups = sorted({Group(item.source, item.type) for item in weighted}, reverse=True)
    return WindowColumns(
        array("q", [item.ts for item in weighted]),
        array("L", [item.value_q for item in weighted]),
        array("L", [item.weight_q for item in weighted]),
        Head(1, len(items), GENESIS),
        array("I", [groups.index(Group(item.source, item.type)) for item in weighted]) if grouped else None,
        groups if grouped else (),
    )
