"""Reads a neuron index's tensors by slice, without loading whole files."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gql_server.errors import Conflict
from gql_server.processes.reader_pool import ReadingEnded
from gql_server.services.artifacts import run_directory
from gql_server.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from gql_server.services.app_context import AppContext


GONE = "The neuron index was deleted or made anew while it was read; ask again."
DAMAGED = "The file of the neuron index, or of its run's texts, is damaged: make both again."

_OF_DAMAGE = (ValueError, LookupError, ArithmeticError, OSError)
"""Errors that damaged tensors lead to."""

Made = TypeVar("Made")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StoredStatistics:
    """What the index says of one neuron. Floats may be NaN or infinite."""

    firing_count: int
    frequency: float
    max_activation: float
    mean_activation: float


@dataclass(frozen=True)
class NeuronHistogram:
    """Counts of non-zero activations in bins of equal width from 0 to ``limit``."""

    counts: list[int]
    limit: float


@dataclass(frozen=True)
class EffectHistogram:
    """Counts of direct effects on output tokens, in equal bins between the lowest and the highest."""

    counts: list[int]
    low: float
    high: float


@dataclass(frozen=True)
class Ranked:
    """Tokens or neurons that the index names for a neuron, strongest first, with a figure each."""

    indices: list[int]
    values: list[float]

    def entries(self, first: int) -> list[tuple[int, float]]:
        """Return at most ``first`` of them."""
        return list(zip(self.indices, self.values, strict=True))[:first]


def path_of(settings: Settings, index_id: str) -> Path:
    """Return the file with the tensors of a neuron index."""
    return run_directory(settings, index_id) / "batch_000000.safetensors"


async def look(server: "AppContext", index_id: str | None, read: Callable[..., Made], *args: Any) -> Made:
    """Return what a function makes of an index's file (or None) and further arguments, in a reader.

    Raises:
        Conflict: The index has been deleted meanwhile, or cannot be read.
        QueueFull: Too many look into indexes.
    """
    path = path_of(server.settings, index_id) if index_id is not None else None
    try:
        return await server.readers.kept.run(read, path, *args)
    except ReadingEnded as ended:
        raise Conflict(f"The neuron index cannot be read: {ended}.") from ended
    except _OF_DAMAGE as error:
        log.warning("neuron index not readable", index=index_id, exc_info=error)
        raise damaged() from error


def damaged() -> Conflict:
    """Return the refusal of what is read from damaged files."""
    return Conflict(DAMAGED)


def statistics(path: Path, neurons: Sequence[int]) -> list[StoredStatistics]:
    """Return the statistics of neurons, in their order."""
    columns = [
        column.tolist()
        for column in rows(path, ("firing_count", "frequency", "max_activation", "mean_activation"), neurons)
    ]
    return [StoredStatistics(*values) for values in zip(*columns, strict=True)]


def histograms(path: Path, neurons: Sequence[int]) -> list[NeuronHistogram]:
    """Return the activation histograms of neurons, in their order."""
    counts, limits = rows(path, ("histogram_counts", "histogram_limit"), neurons)
    return [
        NeuronHistogram(counts=of_neuron, limit=limit)
        for of_neuron, limit in zip(counts.tolist(), limits.tolist(), strict=True)
    ]


def promoted_tokens(path: Path, neurons: Sequence[int]) -> list[Ranked | None]:
    """Return the tokens that neurons raise most, in the neurons' order; see ``_ranked``."""
    return _ranked(path, "promoted_tokens", "promoted_effects", neurons)


def suppressed_tokens(path: Path, neurons: Sequence[int]) -> list[Ranked | None]:
    """Return the tokens that neurons lower most, in the neurons' order; see ``_ranked``."""
    return _ranked(path, "suppressed_tokens", "suppressed_effects", neurons)


def similar_neurons(path: Path, neurons: Sequence[int]) -> list[Ranked | None]:
    """Return the neurons nearest to each, in the neurons' order; see ``_ranked``."""
    return _ranked(path, "similar_neurons", "similar_cosines", neurons)


def correlated_neurons(path: Path, neurons: Sequence[int]) -> list[Ranked | None]:
    """Return the neurons that fire together with each, in the neurons' order; see ``_ranked``."""
    return _ranked(path, "correlated_neurons", "correlations", neurons)


def effect_histograms(path: Path, neurons: Sequence[int]) -> list[EffectHistogram | None]:
    """Return histograms of neurons' effects, in their order; None where the index has none, as _ranked."""
    with opened(path) as file:
        if "effect_counts" not in file.keys():  # noqa: SIM118  (the file is no container)
            return [None] * len(neurons)
    counts, limits = (tensor.tolist() for tensor in rows(path, ("effect_counts", "effect_limits"), neurons))
    return [
        EffectHistogram(of_neuron, low, high) for of_neuron, (low, high) in zip(counts, limits, strict=True)
    ]


def _ranked(path: Path, indices: str, values: str, neurons: Sequence[int]) -> list[Ranked | None]:
    """Return two tensors' rows without the empty entries; None where the index does not have them.

    An index has not where it was made before there were such tensors, or its language model was not there.
    """
    with opened(path) as file:
        if indices not in file.keys():  # noqa: SIM118  (the file is no container)
            return [None] * len(neurons)
    ranked = zip(*(tensor.tolist() for tensor in rows(path, (indices, values), neurons)), strict=True)
    there = [[(index, value) for index, value in zip(*row, strict=True) if index >= 0] for row in ranked]
    return [Ranked([index for index, _ in row], [value for _, value in row]) for row in there]


def rows(path: Path, names: Sequence[str], neurons: Sequence[int]) -> list["np.ndarray[Any, Any]"]:
    """Return the neurons' rows of some tensors, [len(neurons), ...] each; neighbors are read together."""
    import numpy as np

    ordered = sorted(set(neurons))
    places = np.searchsorted(ordered, neurons)
    tensors = []
    with opened(path) as file:
        for name in names:
            tensor = file.get_slice(name)
            parts = [tensor[start:stop] for start, stop in _neighbors(ordered)]
            tensors.append(np.concatenate(parts)[places])
    return tensors


def whole(path: Path, name: str) -> "np.ndarray[Any, Any]":
    """Return all of one tensor."""
    with opened(path) as file:
        tensor: np.ndarray[Any, Any] = file.get_tensor(name)
        return tensor


def is_whole(path: Path) -> bool:
    """Say whether an index's file is there, as long as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an index's file. Raises Conflict where it is deleted by now, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise Conflict(GONE) from None
    except SafetensorError:
        raise damaged() from None


def _neighbors(ordered: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = stop = ordered[0]
    for number in ordered:
        if number > stop:
            yield start, stop
            start = number
        stop = number + 1
    yield start, stop
