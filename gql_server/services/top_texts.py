"""The texts on which a neuron fires most, quoted from the run that its SAE was indexed over."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from gql_server.errors import Conflict
from gql_server.services import artifacts, cursors, neuron_tensors
from gql_server.settings import Settings
from models import ActivationRun, NeuronIndex

if TYPE_CHECKING:
    from gql_server.datasets import TextDataset
    from gql_server.server import Server
    from gql_server.top_texts import TextTokenizer, TopText


@dataclass(frozen=True)
class TopTextSource:
    """What a neuron index's top texts are read from."""

    tensors_path: Path
    dataset: "TextDataset"
    tokenizer: "TextTokenizer | None"
    """None where the index has kept the tokens itself."""
    max_length: int
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The dataset's reader is for one thread."""


async def sources(server: "Server", index_ids: Sequence[str]) -> list[TopTextSource | None]:
    """Return what indexes' top texts are read from, or None where the run or the tokenizer is gone."""
    runs_of_indexes = (
        select(NeuronIndex.id, ActivationRun)
        .join(ActivationRun, ActivationRun.id == NeuronIndex.activation_run_id)
        .where(NeuronIndex.id.in_(index_ids))
    )
    async with server.database.read() as session:
        runs: dict[str, ActivationRun] = dict((await session.execute(runs_of_indexes)).all())
    return await asyncio.to_thread(_open_all, server.settings, index_ids, runs)


def _open_all(
    settings: Settings, index_ids: Sequence[str], runs: dict[str, ActivationRun]
) -> list[TopTextSource | None]:
    return [_open(settings, index_id, runs.get(index_id)) for index_id in index_ids]


def _open(settings: Settings, index_id: str, run: ActivationRun | None) -> TopTextSource | None:
    if run is None:
        return None
    # Imported here, so that the server answers before numpy and pyarrow are there.
    from gql_server.datasets import TextDataset
    from gql_server.kept_tokens import keeps_tokens
    from gql_server.top_texts import load_tokenizer

    path = neuron_tensors.path_of(settings, index_id)
    try:
        dataset = TextDataset(artifacts.dataset_directory(settings, run.id))
        tokenizer = None
        if not (path.exists() and keeps_tokens(path)):
            begin = (run.provenance or {}).get("begin_token_ids")
            tokenizer = load_tokenizer(artifacts.copy_directory(settings, run.language_model_id), begin)
    except FileNotFoundError:
        return None
    return TopTextSource(path, dataset, tokenizer, run.max_length)


async def read(source: TopTextSource, neuron: int, first: int) -> "list[TopText]":
    """Return a neuron's top texts, strongest first.

    Raises InvalidInput for ``first`` outside 1 to 100, Conflict where the index has been deleted meanwhile.
    """
    cursors.check_first(first)
    from gql_server.top_texts import read_top_texts

    async with source.one_at_a_time:
        try:
            return await asyncio.to_thread(
                read_top_texts,
                source.tensors_path,
                neuron,
                first,
                source.dataset,
                source.tokenizer,
                source.max_length,
            )
        except FileNotFoundError:
            raise Conflict(neuron_tensors.GONE) from None
