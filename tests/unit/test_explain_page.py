"""docs/explain.md shows what is really said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import EntryKind, Status
from coherence_grpc.policy import ScorePolicy, Veto, encode_policy
from coherence_grpc.score import quantise
from tests.builders import TENANT, a_provenance, an_item
from tests.unit.reading_scores import open_world

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[2] / "docs" / "explain.md"


def figures(parts: Iterable[object]) -> list[str]:
    return [f"{part.push:+.6f}    {part.delta_if_removed:+.6f}" for part in parts]  # type: ignore[attr-defined]  # parts of both kinds


async def test_the_worked_example_is_what_an_explanation_says(tmp_path: Path) -> None:
    policy = ScorePolicy(
        source_cap_ppm=600_000,
        vetoes=(Veto("payment", quantise(0.5), Status.CRITICAL),),
        type_weights=(("probe", 500_000),),
    )
    probes = [an_item(source="uptime", type="probe", value=value, weight=2) for value in (1, 0.9)]
    payments = [an_item(source="checkout", type="payment", value=v, weight=w) for v, w in ((0.4, 1), (1, 9))]
    async with open_world(tmp_path) as world:
        payload = encode_policy(policy)
        await world.signals.port.append_own(TENANT, EntryKind.POLICY, payload, a_provenance(), now=world.clock.now())
        await world.publish(*probes, *payments)

        explanation = await world.explain(top_n=2)

    page = PAGE.read_text()
    assert explanation.score.score_ppm == 942_174
    told = [*figures(explanation.contributions), *figures(explanation.sources)]
    assert [line for line in told if line not in page] == []
    assert [action.detail for action in explanation.rules if action.detail not in page] == []
