"""The schema against the seed's, and against the SDL that is committed."""

from __future__ import annotations

from typing import Final

from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    build_schema,
    is_non_null_type,
)

from subgraph import schema

SEED: Final = '''
"""Coherence signal as stored in graph."""
type Signal { id: ID!, type: String!, value: Float!, weight: Float, source: String!, ts: DateTime! }

"""Aggregate coherence score per tenant."""
type CoherenceScore { tenantId: ID!, score: Float!, status: String!, updatedAt: DateTime! }

input PublishCoherenceSignalInput {
  tenantId: ID!, type: String!, value: Float!, weight: Float, source: String!, ts: DateTime
}

type Query { tenantCoherence(tenantId: ID!): CoherenceScore! }

type Mutation { publishCoherenceSignal(input: PublishCoherenceSignalInput!): Boolean! }

type Subscription { coherenceEvents(tenantId: ID!): Signal! }

scalar DateTime
'''


def test_ac_api_01_the_seeds_sdl_holds_word_for_word() -> None:
    seed, ours = build_schema(SEED), schema.build_schema().core

    for name, theirs in seed.type_map.items():
        if isinstance(theirs, GraphQLObjectType | GraphQLInputObjectType) and not name.startswith("__"):
            assert missing(theirs, ours.type_map[name]) == []


def test_ac_api_06_what_is_added_to_an_input_or_a_field_may_be_left_out() -> None:
    seed, ours = build_schema(SEED), schema.build_schema().core

    for name, theirs in seed.type_map.items():
        mine = ours.type_map[name]
        if isinstance(theirs, GraphQLInputObjectType) and isinstance(mine, GraphQLInputObjectType):
            assert required(mine.fields) == required(theirs.fields)
        if isinstance(theirs, GraphQLObjectType) and isinstance(mine, GraphQLObjectType):
            for field in theirs.fields:
                assert required(mine.fields[field].args) == required(theirs.fields[field].args)


def test_ac_api_04_tenant_is_an_entity_of_federation_2_9() -> None:
    sdl = schema.build_schema().as_str()

    assert '@link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key"])' in sdl
    assert 'type Tenant @key(fields: "tenantId") {' in sdl
    assert "scalar DateTime" in sdl


def test_the_committed_sdl_is_the_schemas() -> None:
    committed = schema.SDL_FILE.read_text()

    assert committed == schema.build_schema().as_str() + "\n", "run make gen"


def test_everything_in_the_schema_says_what_it_is() -> None:
    silent = [
        name
        for type_name, each in schema.build_schema().core.type_map.items()
        if not type_name.startswith(("_", "link__"))
        for name, description in descriptions(each)
        if not description
    ]

    assert silent == []


def missing(theirs: GraphQLNamedType, mine: GraphQLNamedType) -> list[str]:
    """Fields and arguments of theirs that mine has otherwise or not at all."""
    wrong = []
    for name, field in getattr(theirs, "fields").items():  # noqa: B009 - both kinds have fields
        own = getattr(mine, "fields").get(name)  # noqa: B009 - both kinds have fields
        if own is None or str(own.type) != str(field.type):
            wrong.append(name)
        for argument, each in getattr(field, "args", {}).items():
            if own is None or str(own.args[argument].type) != str(each.type):
                wrong.append(f"{name}({argument})")
    return wrong


def required(parts: dict[str, GraphQLArgument] | dict[str, GraphQLInputField]) -> set[str]:
    """The names that must be given."""
    return {name for name, part in parts.items() if is_non_null_type(part.type)}


def descriptions(each: GraphQLNamedType) -> list[tuple[str, str | None]]:
    """Every part of a type with its description."""
    found = [(each.name, each.description)]
    for name, field in getattr(each, "fields", {}).items():
        if not name.startswith("_"):
            found.append((f"{each.name}.{name}", field.description))
            found += [(f"{each.name}.{name}({a})", arg.description) for a, arg in getattr(field, "args", {}).items()]
    return found
