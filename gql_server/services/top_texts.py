"""The texts that an index names for neurons, quoted from the run that it passed over."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select

from gql_server.services import artifacts, neuron_tensors
from models import ActivationRun, NeuronIndex

if TYPE_CHECKING:
    from gql_server.artifacts.neuron_texts import StoredExampleGroup, StoredNearText
    from gql_server.artifacts.top_texts import ShownTexts, StoredTopText
    from gql_server.services.app_context import AppContext


@dataclass(frozen=True)
class TopTextSource:
    """What a neuron index's top texts are read from, beside the index."""

    dataset_dir: Path
    tokenizer_dir: Path
    begin_token_ids: Sequence[int] | None
    max_length: int


async def sources(server: "AppContext", index_ids: Collection[str]) -> dict[str, TopTextSource]:
    """Return what indexes' top texts are read from, by the indexes' IDs; nothing where the run is gone."""
    runs_of_indexes = (
        select(NeuronIndex.id, ActivationRun)
        .join(ActivationRun, ActivationRun.id == NeuronIndex.activation_run_id)
        .where(NeuronIndex.id.in_(index_ids))
    )
    async with server.database.read() as session:
        runs = (await session.execute(runs_of_indexes)).all()
    return {
        index_id: TopTextSource(
            artifacts.dataset_directory(server.settings, run.id),
            artifacts.copy_directory(server.settings, run.language_model_id),
            (run.provenance or {}).get("begin_token_ids"),
            run.max_length,
        )
        for index_id, run in runs
    }


TOKENS_AROUND = 16
"""Tokens on each side of a text's token that are shown, as artifacts/top_texts.py has it."""
MAX_CONTEXT = 256
"""Limit on the tokens on each side that are asked for; beyond TOKENS_AROUND there is the text alone."""
N_RANGES, PER_RANGE = 8, 5
"""Ranges of example groups, and examples of each, as artifacts/neuron_texts.py has them."""
MAX_SILENT, MAX_NEAR = 20, 5
"""Silent texts that can be shown; of similar neurons an index keeps no more."""
Shown = TypeVar("Shown")
"""What is shown of a neuron."""


async def read(
    server: "AppContext",
    source: TopTextSource,
    index_id: str,
    show: "Callable[..., Shown]",
    args: tuple[int, ...],
    neurons: Sequence[int],
) -> "Sequence[Shown | None]":
    """Return what ``show(shown, neuron, *args)`` makes of neurons; None where texts or tokenizer are gone.

    ``show`` is one of the functions below, or of artifacts/neuron_texts.py; it runs in a reader.

    Raises:
        Conflict: The index has been deleted meanwhile, or it or the run's texts are damaged.
    """
    found = await neuron_tensors.look(server, index_id, _read, neurons, show, args, source)
    return [None] * len(neurons) if found is None else found


def top_texts(shown: "ShownTexts", neuron: int, first: int, tokens_around: int) -> "list[StoredTopText]":
    """Return a neuron's top texts, strongest first."""
    from gql_server.artifacts.top_texts import top_entries

    return [shown.show(entry, tokens_around) for entry in top_entries(shown, neuron, first)]


def example_groups(
    shown: "ShownTexts", neuron: int, bins: int, per_bin: int
) -> "list[StoredExampleGroup] | None":
    """Return examples of a neuron's whole range."""
    from gql_server.artifacts import neuron_texts

    return neuron_texts.example_groups(shown, neuron, bins, per_bin)


def silent_texts(shown: "ShownTexts", neuron: int, first: int) -> "list[StoredTopText] | None":
    """Return texts of the run on which a neuron does not fire."""
    from gql_server.artifacts import neuron_texts

    return neuron_texts.silent_texts(shown, neuron, first)


def near_texts(shown: "ShownTexts", neuron: int, first: int) -> "list[StoredNearText] | None":
    """Return texts of similar neurons on which a neuron does not fire."""
    from gql_server.artifacts import neuron_texts

    return neuron_texts.near_texts(shown, neuron, first)


def _read(
    path: Path,
    neurons: Sequence[int],
    show: "Callable[..., Shown]",
    args: tuple[int, ...],
    source: TopTextSource,
) -> "list[Shown] | None":
    import pyarrow as pa

    from gql_server.artifacts.datasets import TextDataset, UnreadableTexts
    from gql_server.artifacts.kept_tokens import keeps_tokens
    from gql_server.artifacts.top_texts import ShownTexts, load_tokenizer

    try:
        dataset = TextDataset(source.dataset_dir)
    except FileNotFoundError:
        return None
    except UnreadableTexts:
        raise neuron_tensors.damaged() from None
    with neuron_tensors.opened(path) as file:
        tokenizer = None
        if not keeps_tokens(path):
            try:
                tokenizer = load_tokenizer(source.tokenizer_dir, source.begin_token_ids)
            except FileNotFoundError:
                return None
        try:
            shown = ShownTexts(file, dataset, tokenizer, source.max_length)
            return [show(shown, neuron, *args) for neuron in neurons]
        except (pa.ArrowException, UnicodeDecodeError):
            raise neuron_tensors.damaged() from None
