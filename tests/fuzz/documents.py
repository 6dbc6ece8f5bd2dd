"""Selections of the schema as hypothesis-graphql draws them: which fields, how deep, with what arguments."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis_graphql
from graphql import (
    DocumentNode,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    build_schema,
)
from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st
from hypothesis_graphql import Mode

SCHEMA = Path(__file__).parents[2] / "schema.graphql"

MUTATION_WEIGHTS = {"captureActivations": 3, "trainSae": 3, "generate": 3, "importConcepts": 3}
"""How often a mutation is drawn; once where it is not listed."""
SUBSCRIPTION_WEIGHT = 3
SHARES = {"query": 8, "mutation": 7, "subscription": 2, "several": 1, "wrong": 2}
"""Of operations with one root field of a kind, with several, and with one violation of the schema."""

SCALARS = {"BigInt": "1", "DateTime": "2026-01-01T00:00:00Z", "Upload": "no file"}

Strategy = st.SearchStrategy[DocumentNode]


@cache
def schema() -> GraphQLSchema:
    """Return the schema that the server publishes."""
    return build_schema(SCHEMA.read_text())


def documents(count: int, seed: int) -> list[DocumentNode]:
    """Return drawn documents of one operation each; the same for the same arguments."""
    drawn: list[DocumentNode] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_all())
    def draw(document: DocumentNode) -> None:
        drawn.append(document)

    draw()
    return drawn


@cache
def _all() -> Strategy:
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    strategies = {kind: _of_kind(kind) for kind in SHARES}
    return st.sampled_from(kinds).flatmap(strategies.__getitem__)


def _of_kind(kind: str) -> Strategy:
    made = schema()
    if kind == "several":
        return _draw(hypothesis_graphql.queries, made) | _draw(hypothesis_graphql.mutations, made)
    if kind == "wrong":
        return _draw(hypothesis_graphql.queries, made, mode=Mode.NEGATIVE) | _draw(
            hypothesis_graphql.mutations, made, mode=Mode.NEGATIVE
        )
    if kind == "query":
        assert made.query_type
        return _by_field(hypothesis_graphql.queries, made, dict.fromkeys(made.query_type.fields, 1))
    if kind == "mutation":
        assert made.mutation_type
        weights = {name: MUTATION_WEIGHTS.get(name, 1) for name in made.mutation_type.fields}
        return _by_field(hypothesis_graphql.mutations, made, weights)
    # It knows no subscriptions, so they are drawn as queries of a schema that has them in the queries' place.
    assert made.subscription_type
    turned = GraphQLSchema(query=made.subscription_type, types=made.type_map.values())
    weights = dict.fromkeys(made.subscription_type.fields, SUBSCRIPTION_WEIGHT)
    return _by_field(hypothesis_graphql.queries, turned, weights).map(_as_subscription)


def _by_field(make: Callable[..., Any], made: GraphQLSchema, weights: dict[str, int]) -> Strategy:
    names = [name for name, weight in weights.items() for _ in range(weight)]
    strategies = {name: _draw(make, made, fields=(name,)) for name in weights}
    return st.sampled_from(names).flatmap(strategies.__getitem__)


def _draw(make: Callable[..., Any], made: GraphQLSchema, **options: Any) -> Strategy:
    scalars = {name: st.just(StringValueNode(value=text)) for name, text in SCALARS.items()}
    drawn: Strategy = make(made, custom_scalars=scalars, print_ast=_as_it_is, **options)
    return drawn


def _as_it_is(document: DocumentNode) -> DocumentNode:
    return document


def _as_subscription(document: DocumentNode) -> DocumentNode:
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    return DocumentNode(
        definitions=(
            OperationDefinitionNode(
                operation=OperationType.SUBSCRIPTION, selection_set=operation.selection_set
            ),
        )
    )
