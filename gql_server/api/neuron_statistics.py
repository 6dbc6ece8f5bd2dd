"""A neuron's statistics out of its index, which a list of neurons reads all at once."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode, NameNode

from gql_server.api.context import Info
from gql_server.errors import Conflict
from gql_server.services.neuron_tensors import StoredStatistics

V = TypeVar("V")

NeuronPlace = tuple[str, int]
"""The ID of its SAE, and its index there."""
FIGURES = {"frequency", "maxActivation", "meanActivation", "dead"}
"""Fields of a neuron that come out of its index's statistics."""


def figure(
    info: Info, place: NeuronPlace, known: StoredStatistics | None, show: Callable[[StoredStatistics], V]
) -> V | None:
    """Return what ``show`` makes of a neuron's statistics; None where its SAE is not indexed.

    Where they are not known it is awaitable, which graphql-core finds out. To wait for each field of each
    neuron in a list would take longer than all the rest.
    """
    return cast(Any, _wait_for_figure(info, place, show)) if known is None else show(known)


async def _wait_for_figure(info: Info, place: NeuronPlace, show: Callable[[StoredStatistics], V]) -> V | None:
    statistics = await info.context.loaders.neuron_statistics.load(place)
    return show(statistics) if statistics else None


async def statistics_of_page(
    info: Info, sae_id: str, neurons: list[int]
) -> dict[int, StoredStatistics | None]:
    """Return the statistics of an SAE's neurons if they are asked for; none where they are gone."""
    if not _asks_for_figures(info):
        return {}
    loader = info.context.loaders.neuron_statistics
    try:
        found = await loader.load_many([(sae_id, neuron) for neuron in neurons])
    except Conflict:
        return {}  # The fields say so, each in its place.
    return dict(zip(neurons, found, strict=True))


def _asks_for_figures(info: Info) -> bool:
    """Return whether any of them is selected, at any depth; each fragment is looked at once."""
    asked = info._raw_info
    rest, seen = [node.selection_set for node in asked.field_nodes], set()
    while rest:
        selections = rest.pop()
        for selection in selections.selections if selections else ():
            match selection:
                case FieldNode(name=NameNode(value=name)) if name in FIGURES:
                    return True
                case FieldNode() | InlineFragmentNode():
                    rest.append(selection.selection_set)
                case FragmentSpreadNode(name=NameNode(value=name)) if name not in seen:
                    seen.add(name)
                    rest.append(asked.fragments[name].selection_set)
    return False
