"""GraphQL as every transport uses it: which document a request means, and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql import OperationType

from subgraph.documents import OPERATIONS, Documents
from subgraph.engine import Engine
from subgraph.schema import build_schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from subgraph.documents import Chosen
    from subgraph.engine import Answer
    from subgraph.operation import Operation, Services
    from subgraph.requests import Asked
    from subgraph.switches import Switches


class GraphQL:
    """The documents, the switch that lets free text in, and what answers them."""

    def __init__(self, services: Services, switches: Switches, *, dev: bool) -> None:
        self.services = services
        self.engine = Engine()
        self._switches = switches
        files = [*OPERATIONS.glob("*.graphql"), *(OPERATIONS.glob("dev/*.graphql") if dev else ())]
        self._documents = Documents(build_schema().core, files, introspection=dev)

    def choose(self, asked: Asked) -> Chosen:
        """The document and operation that the request means.

        Raises:
            RequestRefused: there is none, or the request may not ask for it.
        """
        return self._documents.choose(asked, free_text=self._switches.free_text)

    async def answers(self, chosen: Chosen, asked: Asked, operation: Operation) -> AsyncGenerator[Answer, None]:
        """The answers of any operation: one of a query or a mutation, as many as there are of a subscription."""
        if chosen.kind is not OperationType.SUBSCRIPTION:
            yield await self.engine.execute(chosen, asked.variables, operation)
            return
        events = self.engine.subscribe(chosen, asked.variables, operation)
        try:
            async for answer in events:
                yield answer
        finally:
            await events.aclose()
