"""R4: the service is killed at each of its failpoints, by each way to publish, on embedded and on real stores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.faults.run import Finding
from bench.report import progress
from bench.servers import servers, switched
from coherence_grpc.client import connect
from coherence_grpc.failpoints import PLACES
from tests.e2e.cutting import published_up_to
from tests.e2e.failing import BEFORE_THE_COMMIT, EMBEDDED, a_batch, killed_at, one_signal, stored_once
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.faults.run import Length
    from tests.e2e.failing import Attempt

DEMAND: Final = "0 lost; the same request again is DUPLICATE with the same seq if it was stored, else STORED, once"
# A dead process's shards go to the next one when its lease has run out.
PUBLISHED_S: Final = 30.0


@dataclass(slots=True)
class Kills:
    """What the kills left, by place: requests that were stored, requests that were not, and what was wrong."""

    stored: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    flaws: list[str] = field(default_factory=list)

    async def one(self, place: str, attempt: Attempt, directory: Path, environment: Mapping[str, str]) -> None:
        """Kill, start again, make the attempt again."""
        try:
            answered = await killed_at(place, directory, [attempt], environment)
            async with (
                serving(directory, environment=environment, http=False) as served,
                connect(served.grpc) as client,
            ):
                before = await stored_once(client, attempt, answered.get(attempt.tenant))
                head = attempt.signals
                # Else the next process would find a row to publish before it is asked for anything.
                await eventually(lambda: published_up_to(client, attempt.tenant, head), within_s=PUBLISHED_S)
        except (AssertionError, TimeoutError) as flaw:
            self.flaws.append(f"{place}, {attempt.tenant}: {type(flaw).__name__} {flaw}"[:300])
            return
        (self.stored if before else self.absent)[place] += 1
        if before == (place in BEFORE_THE_COMMIT):
            self.flaws.append(f"{place}, {attempt.tenant}: {'stored' if before else 'not stored'}")

    def figures(self) -> dict[str, object]:
        """As JSON says it."""
        return {"stored_before": dict(self.stored), "not_stored_before": dict(self.absent), "flaws": self.flaws}


async def killed_at_each_place(length: Length) -> Finding:
    """Each place by PublishSignal and by PublishSignals; on servers also inside PostgreSQL's and before the marks."""
    embedded, on_servers = Kills(), Kills()
    for place in EMBEDDED:
        for _ in range(length.runs):
            for attempt in (one_signal(), a_batch()):
                await embedded.one(place, attempt, length.fresh("embedded"), {})
    progress(f"  embedded: {embedded.figures()}")
    directory = length.fresh("servers")
    await switched(directory, dedupe_mode="redis")
    async with servers("postgres", "redis", "neo4j") as environment:
        for place in PLACES:
            for _ in range(length.runs):
                for attempt in (one_signal(), a_batch()):
                    await on_servers.one(place, attempt, directory, environment)
    progress(f"  servers: {on_servers.figures()}")
    kills = 2 * length.runs * (len(EMBEDDED) + len(PLACES))
    figures = {"kills": kills, "embedded": embedded.figures(), "servers": on_servers.figures()}
    return Finding(DEMAND, not (embedded.flaws or on_servers.flaws), figures)
