"""The schema as a federation 2 subgraph, with an entity lookup that keeps bad representations apart."""

from collections.abc import Mapping
from typing import Final

from graphql import GraphQLSchema
from strawberry import federation
from strawberry.federation.schema import FederationAny
from strawberry.types.info import Info

from coherence_grpc.errors import FieldError
from subgraph.refusals import Refused, invalid
from subgraph.schema.scores import Tenant

MOST_REPRESENTATIONS: Final = 1000


class FederatedSchema(federation.Schema):
    """Strawberry's federation schema; one bad representation is an error of its place in the list."""

    @property
    def core(self) -> GraphQLSchema:
        """What graphql-core executes."""
        return self._schema

    def entities_resolver(
        self,
        info: Info,  # noqa: ARG002 - the signature is Strawberry's
        representations: list[FederationAny],
    ) -> list[FederationAny]:
        """The entities that these representations stand for, each in its place."""
        if len(representations) > MOST_REPRESENTATIONS:
            problem = f"must be at most {MOST_REPRESENTATIONS}, not {len(representations)}; ask in parts"
            message = f"representations {problem}"
            raise invalid(message, FieldError("representations", problem))
        return [_entity(place, given) for place, given in enumerate(representations)]  # type: ignore[misc]  # an error in the list is the error of its place


def _entity(place: int, given: object) -> Tenant | Refused:
    path = f"representations[{place}]"
    if not isinstance(given, Mapping):
        return _bad(path, "must be an object with __typename and the key's fields")
    if given.get("__typename") != "Tenant":
        return _bad(f"{path}.__typename", "must be Tenant: no other entity lives here")
    # Only the declared key counts, whatever else a gateway sends along.
    tenant_id = given.get("tenantId")
    if isinstance(tenant_id, int) and not isinstance(tenant_id, bool):
        tenant_id = str(tenant_id)
    if not isinstance(tenant_id, str):
        return _bad(f"{path}.tenantId", "must be a string: it is the key of Tenant")
    return Tenant(tenant_id=tenant_id)  # type: ignore[arg-type]  # an ID is a string


def _bad(path: str, problem: str) -> Refused:
    return invalid(f"{path} {problem}", FieldError(path, problem))
