"""What a list of neurons reads of all of them at once: statistics out of the index, and concepts."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode, NameNode

from gql_server.api.context import Info
from gql_server.api.loaders import PageOfNeurons
from gql_server.errors import Conflict
from gql_server.services.neuron_tensors import StoredStatistics
from models import Concept

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


async def statistics_of_page(info: Info, page: PageOfNeurons) -> dict[int, StoredStatistics]:
    """Return neurons' statistics by index if they are asked for; none where they are gone."""
    if not _asks_for(info, FIGURES):
        return {}
    try:
        return await info.context.loaders.statistics_of_pages.load(page)
    except Conflict:
        return {}  # The fields say so, each in its place.


async def concepts_of_page(info: Info, page: PageOfNeurons) -> dict[int, Concept] | None:
    """Return the concepts of neurons that have one, by index; None where they are not asked for."""
    return await info.context.loaders.concepts_of_pages.load(page) if _asks_for(info, {"concept"}) else None


def _asks_for(info: Info, names: Collection[str]) -> bool:
    """Return whether any field of these names is selected, at any depth; each fragment is looked at once."""
    asked = info._raw_info
    rest, seen = [node.selection_set for node in asked.field_nodes], set()
    while rest:
        selections = rest.pop()
        for selection in selections.selections if selections else ():
            match selection:
                case FieldNode(name=NameNode(value=name)) if name in names:
                    return True
                case FieldNode() | InlineFragmentNode():
                    rest.append(selection.selection_set)
                case FragmentSpreadNode(name=NameNode(value=name)) if name not in seen:
                    seen.add(name)
                    rest.append(asked.fragments[name].selection_set)
    return False
