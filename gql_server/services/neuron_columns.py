"""Figures of all of an SAE's neurons at once, for histograms, scatter plots and maps."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gql_server.errors import InvalidInput
from gql_server.services import neuron_tensors

if TYPE_CHECKING:
    import numpy as np

    from gql_server.services.app_context import AppContext

MAX_COLUMNS = 8
MAX_BINS = 256


class NeuronColumn(StrEnum):
    """A figure that an index has of every neuron."""

    FREQUENCY = "FREQUENCY"
    MAX_ACTIVATION = "MAX_ACTIVATION"
    MEAN_ACTIVATION = "MEAN_ACTIVATION"
    DECODER_MAP_X = "DECODER_MAP_X"
    DECODER_MAP_Y = "DECODER_MAP_Y"


_ON_MAP = (NeuronColumn.DECODER_MAP_X, NeuronColumn.DECODER_MAP_Y)
_TENSORS = {
    NeuronColumn.FREQUENCY: "frequency",
    NeuronColumn.MAX_ACTIVATION: "max_activation",
    NeuronColumn.MEAN_ACTIVATION: "mean_activation",
}


@dataclass(frozen=True)
class Density:
    """Counts of neurons in cells between edges: counts[y][x]."""

    x_edges: list[float]
    y_edges: list[float]
    counts: list[list[int]]


async def columns(
    server: "AppContext", index_id: str | None, names: Sequence[NeuronColumn]
) -> list[str] | None:
    """Return columns as base64 of little-endian float32; None where there is no index or it lacks one.

    Raises:
        InvalidInput: No columns, or too many.
        Conflict, QueueFull: As neuron_tensors.look().
    """
    if not 1 <= len(names) <= MAX_COLUMNS:
        raise InvalidInput.at("columns", f"Name 1 to {MAX_COLUMNS} columns; there are {len(names)}.")
    if index_id is None:
        return None
    return await neuron_tensors.look(server, index_id, _encoded, list(names))


async def density(
    server: "AppContext",
    index_id: str | None,
    x: NeuronColumn,
    y: NeuronColumn,
    bins: int,
    logarithmic: bool,
) -> Density | None:
    """Return how many neurons lie where by two figures; None where there is no index or it lacks one.

    ``logarithmic`` takes log10 of figures, and leaves out neurons whose figure is 0; the map is never so.
    Errors as above.
    """
    if not 1 <= bins <= MAX_BINS:
        raise InvalidInput.at("bins", f"bins must be from 1 to {MAX_BINS}; it is {bins}.")
    if index_id is None:
        return None
    return await neuron_tensors.look(server, index_id, _density, x, y, bins, logarithmic)


def _column(path: Path, name: NeuronColumn) -> "np.ndarray[Any, Any] | None":
    if name not in _ON_MAP:
        return neuron_tensors.whole(path, _TENSORS[name])
    with neuron_tensors.opened(path) as file:
        if "decoder_map" not in file.keys():  # noqa: SIM118  (the file is no container)
            return None
        places: np.ndarray[Any, Any] = file.get_tensor("decoder_map")[:, _ON_MAP.index(name)]
        return places


def _encoded(path: Path, names: Sequence[NeuronColumn]) -> list[str] | None:
    found = [_column(path, name) for name in names]
    values = [column.astype("<f4") for column in found if column is not None]
    encoded = [base64.b64encode(column.tobytes()).decode() for column in values]
    return encoded if len(encoded) == len(names) else None


def _density(path: Path, x: NeuronColumn, y: NeuronColumn, bins: int, logarithmic: bool) -> Density | None:
    import numpy as np

    axes = []
    for name in (x, y):
        values = _column(path, name)
        if values is None:
            return None
        values = values.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            axes.append(np.log10(values) if logarithmic and name not in _ON_MAP else values)
    there = np.isfinite(axes[0]) & np.isfinite(axes[1])
    counts, x_edges, y_edges = np.histogram2d(axes[0][there], axes[1][there], bins)
    return Density(x_edges.tolist(), y_edges.tolist(), counts.T.astype(int).tolist())
