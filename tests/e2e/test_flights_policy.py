"""Real flights under other rules: what was foretold is what happens, and nothing was written to foretell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.client import connect
from tests.e2e.policing_flights import do, foretell
from tests.e2e.publishing_flights import publish_flights
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

# The smallest of the ten: 5,162 departures.
CARRIER: Final = "vx"


async def test_a_year_of_flights_under_other_rules_is_as_foretold(tmp_path: Path) -> None:
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        await publish_flights(client, CARRIER)

        foretold = await foretell(client, CARRIER)
        happened = await do(client, CARRIER)

    assert (foretold.plain_changes, foretold.steady_changes) == (293, 119)
    assert happened.plain_lasting == 173
    assert happened.steady_changes == foretold.steady_changes
    assert happened.vetoed == foretold.vetoed
    assert foretold.earlier_h == pytest.approx(3 + 35 / 60)
