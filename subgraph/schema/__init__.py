"""The GraphQL schema: the seed's slice word for word, and what this version adds to it."""

from functools import cache
from pathlib import Path
from typing import Final

from strawberry.schema.config import StrawberryConfig

from subgraph.schema.federation import FederatedSchema
from subgraph.schema.mutations import Mutation
from subgraph.schema.queries import Query
from subgraph.schema.scalars import SCALARS
from subgraph.schema.subscriptions import Subscription

__all__ = ["SDL_FILE", "build_schema"]

SDL_FILE: Final = Path(__file__).resolve().parent.parent / "schema.graphql"


@cache
def build_schema() -> FederatedSchema:
    """The schema, built once a process."""
    # Pinned: every gateway composes 2.9.
    return FederatedSchema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
        federation_version="2.9",
    )
