"""What-if, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.convert import simulations
from coherence_grpc.convert.calls import timeout_s

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb
    from coherence_grpc.materialize import Simulation
    from coherence_grpc.tokens import Signer


class SimulationAnswers:
    """Answers what would be."""

    def __init__(self, simulation: Simulation, signer: Signer) -> None:
        self._simulation = simulation
        self._signer = signer

    async def simulate(self, request: pb.SimulateScoreRequest) -> pb.SimulateScoreResponse:
        """What would be with more signals, or under another policy."""
        simulated = await self._simulation.simulate(simulations.what_if(request), timeout_s=timeout_s())
        return simulations.simulate_score_response(request, simulated, self._signer)
