"""The GraphQL schema: the seed's slice word for word, and what this version adds to it."""

from functools import cache

from strawberry.schema.config import StrawberryConfig

from subgraph.schema.federation import FederatedSchema
from subgraph.schema.mutations import Mutation
from subgraph.schema.queries import Query
from subgraph.schema.scalars import SCALARS
from subgraph.schema.subscriptions import Subscription

__all__ = ["build_schema"]


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
