"""The texts on which a neuron fires most, quoted from the run that its SAE was indexed over."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gql_server.services import artifacts, cursors, neuron_tensors
from models import ActivationRun, NeuronIndex

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from gql_server.datasets import TextDataset
    from gql_server.server import Server
    from gql_server.top_texts import TopText


@dataclass(frozen=True)
class TopTextSource:
    """What a neuron index's top texts are read from."""

    tensors_path: Path
    dataset: "TextDataset"
    tokenizer: "Tokenizer"
    max_length: int
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A tokenizer serves one caller at a time."""


async def source(server: "Server", index_id: str) -> TopTextSource | None:
    """Return what an index's top texts are read from, or None where the run or the tokenizer is gone."""
    async with server.database.read() as session:
        index = await session.get(NeuronIndex, index_id)
        run = await session.get(ActivationRun, index.activation_run_id) if index else None
    if run is None:
        return None
    settings = server.settings
    return await asyncio.to_thread(
        _open,
        neuron_tensors.path_of(settings, index_id),
        artifacts.dataset_directory(settings, run.id),
        artifacts.copy_directory(settings, run.language_model_id),
        run.max_length,
    )


def _open(tensors: Path, dataset: Path, tokenizer: Path, max_length: int) -> TopTextSource | None:
    # Imported here, so that the server answers before numpy and pyarrow are there.
    from gql_server.datasets import TextDataset
    from gql_server.top_texts import load_tokenizer

    try:
        return TopTextSource(tensors, TextDataset(dataset), load_tokenizer(tokenizer), max_length)
    except FileNotFoundError:
        return None


async def read(source: TopTextSource, neuron: int, first: int) -> "list[TopText]":
    """Return a neuron's top texts, strongest first.

    Raises InvalidInput for ``first`` outside 1 to 100.
    """
    cursors.check_first(first)
    from gql_server.top_texts import read_top_texts

    async with source.one_at_a_time:
        return await asyncio.to_thread(
            read_top_texts,
            source.tensors_path,
            neuron,
            first,
            source.dataset,
            source.tokenizer,
            source.max_length,
        )
