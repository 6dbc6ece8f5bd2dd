"""Figures of all of an SAE's neurons at once."""

import strawberry

from gql_server.api.common import object_type
from gql_server.api.context import Info
from gql_server.api.enums import NeuronColumn
from gql_server.api.whole_lists import Whole
from gql_server.services import neuron_columns
from models import Sae as SaeRow
from models.enums import ArtifactStatus


@object_type
class NeuronColumnValues:
    """A figure of all neurons."""

    column: NeuronColumn = strawberry.field(description="Which figure.")
    float32: str = strawberry.field(
        description=(
            "One number for each neuron, by index: little-endian 32-bit floats in base64, 350 kB for"
            " 65,536 of them. In JavaScript: new Float32Array(Uint8Array.from(atob(text), c =>"
            " c.charCodeAt(0)).buffer)."
        )
    )


@object_type
class NeuronColumns:
    """Figures of all neurons."""

    neuron_count: int = strawberry.field(description="How many neurons there are.")
    columns: list[NeuronColumnValues] = strawberry.field(description="In the order of the request.")


@object_type
class NeuronDensity:
    """How many neurons lie in each cell of two figures."""

    x_edges: list[float] = strawberry.field(
        description=(
            "Edges of the cells from left to right, one more than there are; of log10 if log was asked for."
        )
    )
    y_edges: list[float] = strawberry.field(description="Edges from bottom to top.")
    counts: list[list[int]] = strawberry.field(
        description="Neurons in each cell: a list for each row from bottom to top, from left to right."
    )


async def columns_of(info: Info, sae: SaeRow, columns: list[NeuronColumn]) -> NeuronColumns | None:
    """Return columns as they are shown."""
    index_id = await _ready_index_id(info, sae)
    found = await neuron_columns.columns(info.context.server, index_id, columns)
    if found is None:
        return None
    values = [
        NeuronColumnValues(column=column, float32=text) for column, text in zip(columns, found, strict=True)
    ]
    return NeuronColumns(neuron_count=sae.latent_count or 0, columns=values)


async def density_of(
    info: Info, sae: SaeRow, x: NeuronColumn, y: NeuronColumn, bins: int, logarithmic: bool
) -> NeuronDensity | None:
    """Return a density as it is shown."""
    index_id = await _ready_index_id(info, sae)
    found = await neuron_columns.density(info.context.server, index_id, x, y, bins, logarithmic)
    if found is None:
        return None
    return NeuronDensity(
        x_edges=found.x_edges, y_edges=found.y_edges, counts=[Whole(row) for row in found.counts]
    )


async def _ready_index_id(info: Info, sae: SaeRow) -> str | None:
    index = await info.context.loaders.neuron_indexes.load(sae.id)
    return index.id if index and index.status == ArtifactStatus.READY else None
