"""The texts on which a neuron fires most, quoted from the run that its SAE was indexed over."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from gql_server.services import artifacts, neuron_tensors
from models import ActivationRun, NeuronIndex

if TYPE_CHECKING:
    from gql_server.artifacts.top_texts import StoredTopText
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


async def read(
    server: "AppContext", source: TopTextSource, index_id: str, first: int, neurons: Sequence[int]
) -> "Sequence[list[StoredTopText] | None]":
    """Return neurons' top texts, each strongest first; None where texts or tokenizer are gone.

    Raises:
        Conflict: The index has been deleted meanwhile, or it or the run's texts are damaged.
    """
    found = await neuron_tensors.look(server, index_id, _read, neurons, first, source)
    return [None] * len(neurons) if found is None else found


def _read(
    path: Path, neurons: Sequence[int], first: int, source: TopTextSource
) -> "list[list[StoredTopText]] | None":
    import pyarrow as pa

    from gql_server.artifacts.datasets import TextDataset, UnreadableTexts
    from gql_server.artifacts.kept_tokens import keeps_tokens
    from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts

    try:
        dataset = TextDataset(source.dataset_dir)
    except FileNotFoundError:
        return None
    except UnreadableTexts:
        raise neuron_tensors.damaged() from None
    with neuron_tensors.opened(path):
        tokenizer = None
        if not keeps_tokens(path):
            try:
                tokenizer = load_tokenizer(source.tokenizer_dir, source.begin_token_ids)
            except FileNotFoundError:
                return None
        try:
            return [
                read_top_texts(path, neuron, first, dataset, tokenizer, source.max_length)
                for neuron in neurons
            ]
        except (pa.ArrowException, UnicodeDecodeError):
            raise neuron_tensors.damaged() from None
