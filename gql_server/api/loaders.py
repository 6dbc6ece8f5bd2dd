"""DataLoaders: what many resolvers of an operation ask for is read at once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from gql_server.errors import Conflict, Refusal
from gql_server.processes.reader_pool import ReadingEnded
from gql_server.services import (
    artifacts,
    batches,
    concept_history,
    model_identity,
    neuron_tensors,
    neurons,
    pages,
    stored_datasets,
    top_texts,
)
from gql_server.services.cursors import MAX_FIRST
from gql_server.services.model_identity import LanguageModelState
from gql_server.services.neuron_selection import Neighbors
from gql_server.services.neuron_tensors import EffectHistogram, NeuronHistogram, Ranked, StoredStatistics
from gql_server.services.pages import Children, Page
from gql_server.services.tokenizing import texts_of_tokens
from models import (
    ActivationRun,
    Concept,
    ConceptConfig,
    ConceptRevision,
    Job,
    JobEvent,
    LanguageModel,
    NeuronIndex,
    Sae,
    SaeEvaluation,
    StoredDataset,
)
from models.enums import ArtifactStatus, JobEventType

if TYPE_CHECKING:
    from gql_server.services.app_context import AppContext

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
G = TypeVar("G", bound=Hashable)

MAX_KEYS_PER_STATEMENT = 10_000  # SQLite allows 32,766 parameters, and a neuron's key is two.


@dataclass(frozen=True)
class ChildrenKey:
    """A page of a parent's children."""

    children: Children
    parent_id: str
    search: str | None
    first: int
    after: str | None


@dataclass(frozen=True)
class ChildrenCountKey:
    """The number of a parent's children."""

    children: Children
    parent_id: str
    search: str | None


@dataclass(frozen=True)
class JobEventsKey:
    """Some of a job's events; as batches.job_events has it."""

    job_id: str
    first: int = 1
    after: int = 0
    types: tuple[JobEventType, ...] | None = None
    last: int | None = None


@dataclass(frozen=True)
class TrainingPointsKey:
    """A thinned-out training history."""

    sae_id: str
    max_points: int


@dataclass(frozen=True)
class IndexedNeuron:
    """A neuron in a neuron index."""

    index_id: str
    neuron: int


@dataclass(frozen=True)
class PageOfNeurons:
    """Neurons of an SAE that are listed together. What is said of each is read by one key: a key has futures
    and callbacks, which for each neuron of a list would take longer than to read.
    """

    sae_id: str
    neurons: tuple[int, ...]


@dataclass(frozen=True)
class NeuronTextsKey:
    """Texts that an SAE's index names for a neuron: what a function of services/top_texts.py shows of it."""

    sae_id: str
    neuron: int
    show: Callable[..., Any]
    args: tuple[int, ...]


@dataclass(frozen=True)
class NeighborsKey:
    """What comes before and after a neuron in a list of its SAE's neurons."""

    sae_id: str
    neuron: int
    selection: neurons.NeuronSelection
    sae: Sae = field(compare=False)


@dataclass(frozen=True)
class EvaluationsKey:
    """The newest evaluations of an SAE."""

    sae_id: str
    first: int


@dataclass(frozen=True)
class TextsKey:
    """Some texts of a stored dataset or a run, by its ID."""

    owner_id: str
    first: int
    offset: int


@dataclass(frozen=True)
class TokenKey:
    """A token of a language model's vocabulary."""

    language_model_id: str
    token_id: int


@dataclass(frozen=True)
class NeuronsKey:
    """A page of an SAE's neurons."""

    sae_id: str
    query: neurons.NeuronQuery
    sae: Sae = field(compare=False)


@dataclass(frozen=True)
class LanguageModelKey:
    """A language model whose row is known."""

    id: str
    row: LanguageModel = field(compare=False)


class Loaders:
    """The loaders of one operation; nothing that they have read outlives it.

    Each reads in a session of its own, since siblings are resolved at once and sessions cannot be shared.
    """

    def __init__(self, server: "AppContext", job: Job | None = None) -> None:
        """Make them; a job that is known is not read."""
        self._server = server
        self._job = job
        self._text_bytes_left = server.settings.max_answer_bytes
        """Of datasets' texts: what is beyond is not even read."""

    # Each is made when it is first asked for: a subscription has new ones for each of its events.

    @cached_property
    def language_models(self) -> DataLoader[str, LanguageModel | None]:
        """Language models by ID."""
        return self._rows(LanguageModel)

    @cached_property
    def language_model_states(self) -> DataLoader[LanguageModelKey, LanguageModelState]:
        """What is known of language models' files as they are now."""
        return _loader(self._load_language_model_states)

    @cached_property
    def activation_runs(self) -> DataLoader[str, ActivationRun | None]:
        """Activation runs by ID."""
        return self._rows(ActivationRun)

    @cached_property
    def saes(self) -> DataLoader[str, Sae | None]:
        """SAEs by ID."""
        return self._rows(Sae)

    @cached_property
    def stored_datasets(self) -> DataLoader[str, StoredDataset | None]:
        """Stored datasets by ID."""
        return self._rows(StoredDataset)

    @cached_property
    def evaluations(self) -> DataLoader[EvaluationsKey, list[SaeEvaluation]]:
        """SAEs' evaluations, newest first."""
        return _loader(self._load_evaluations)

    @cached_property
    def texts(self) -> DataLoader[TextsKey, list[str] | None]:
        """Texts of stored datasets and runs; None where they are not there."""
        return _loader(self._load_texts)

    @cached_property
    def jobs(self) -> DataLoader[str, Job | None]:
        """Jobs by ID."""
        loader = self._rows(Job)
        if self._job is not None:
            loader.prime(self._job.id, self._job)
        return loader

    @cached_property
    def neuron_indexes(self) -> DataLoader[str, NeuronIndex | None]:
        """The index to show of an SAE, by the SAE's ID."""
        return self._optional(batches.neuron_indexes)

    @cached_property
    def concepts(self) -> DataLoader[tuple[str, int], Concept | None]:
        """The concept of a neuron, by its SAE's ID and its index."""
        return self._optional(batches.concepts)

    @cached_property
    def concepts_of_pages(self) -> DataLoader[PageOfNeurons, dict[int, Concept]]:
        """The concepts of a page's neurons that have one, by index."""
        return _loader(self._load_concepts_of_pages, MAX_KEYS_PER_STATEMENT // MAX_FIRST)

    @cached_property
    def concepts_by_id(self) -> DataLoader[str, Concept | None]:
        """Concepts by ID."""
        return self._rows(Concept)

    @cached_property
    def concept_configs(self) -> DataLoader[str, ConceptConfig | None]:
        """Concept configs by ID."""
        return self._rows(ConceptConfig)

    @cached_property
    def concept_revisions(self) -> DataLoader[tuple[str, int], list[ConceptRevision]]:
        """The earlier versions of a neuron's concept, newest first, by its SAE's ID and its index."""
        return _loader(self._load_concept_revisions)

    @cached_property
    def queue_positions(self) -> DataLoader[str, int | None]:
        """How many jobs come before one in the queue, by its ID."""
        return self._optional(batches.queue_positions)

    @cached_property
    def children(self) -> DataLoader[ChildrenKey, Page[Any]]:
        """Pages of what hangs on a row."""
        return _loader(self._load_children)

    @cached_property
    def children_counts(self) -> DataLoader[ChildrenCountKey, int]:
        """How many hang on a row."""
        return _loader(self._load_children_counts)

    @cached_property
    def job_events(self) -> DataLoader[JobEventsKey, list[JobEvent]]:
        """Ranges of jobs' events."""
        return _loader(self._load_job_events)

    @cached_property
    def training_points(self) -> DataLoader[TrainingPointsKey, list[Row[Any]]]:
        """Thinned-out training histories."""
        return _loader(self._load_training_points)

    @cached_property
    def neuron_statistics(self) -> DataLoader[tuple[str, int], StoredStatistics | None]:
        """What is shown of a neuron, by its SAE's ID and its index; None where the SAE is not indexed."""
        return _loader(self._load_statistics)

    @cached_property
    def statistics_of_pages(self) -> DataLoader[PageOfNeurons, dict[int, StoredStatistics]]:
        """What is shown of a page's neurons, by index; nothing where the SAE is not indexed."""
        return _loader(self._load_statistics_of_pages)

    @cached_property
    def neuron_histograms(self) -> DataLoader[IndexedNeuron, NeuronHistogram]:
        """A neuron's histogram in an index."""
        return self._tensors(neuron_tensors.histograms)

    @cached_property
    def promoted_tokens(self) -> DataLoader[IndexedNeuron, Ranked | None]:
        """The tokens that a neuron raises most, as an index has them."""
        return self._tensors(neuron_tensors.promoted_tokens)

    @cached_property
    def suppressed_tokens(self) -> DataLoader[IndexedNeuron, Ranked | None]:
        """The tokens that a neuron lowers most, as an index has them."""
        return self._tensors(neuron_tensors.suppressed_tokens)

    @cached_property
    def similar_neurons(self) -> DataLoader[IndexedNeuron, Ranked | None]:
        """The neurons nearest to one, as an index has them."""
        return self._tensors(neuron_tensors.similar_neurons)

    @cached_property
    def correlated_neurons(self) -> DataLoader[IndexedNeuron, Ranked | None]:
        """The neurons that fire together with one, as an index has them."""
        return self._tensors(neuron_tensors.correlated_neurons)

    @cached_property
    def effect_histograms(self) -> DataLoader[IndexedNeuron, EffectHistogram | None]:
        """A neuron's effects on the vocabulary in an index."""
        return self._tensors(neuron_tensors.effect_histograms)

    @cached_property
    def neighbors(self) -> DataLoader[NeighborsKey, Neighbors]:
        """What comes before and after neurons in lists."""
        return _loader(self._load_neighbors)

    @cached_property
    def token_texts(self) -> DataLoader[TokenKey, str | None]:
        """What a token stands for; None where the language model's tokenizer is not there."""
        return _loader(self._load_token_texts)

    @cached_property
    def neuron_pages(self) -> DataLoader[NeuronsKey, neurons.NeuronPage]:
        """Pages of SAEs' neurons."""
        return _loader(self._load_neuron_pages)

    @cached_property
    def frequency_histograms(self) -> DataLoader[str, dict[str, Any] | None]:
        """How often an index's neurons fire, by its ID."""
        return self._optional(batches.frequency_histograms)

    @cached_property
    def neuron_texts(self) -> DataLoader[NeuronTextsKey, Any]:
        """Texts that an index names for a neuron; None where there is none, or its run or the tokenizer is
        gone.
        """
        return _loader(self._load_neuron_texts)

    def _rows(self, table: type[V]) -> DataLoader[str, V | None]:
        async def read(session: AsyncSession, ids: Sequence[str]) -> dict[str, V]:
            return await batches.rows(session, table, ids)

        return self._optional(read)

    def _optional(
        self, read: Callable[[AsyncSession, Sequence[K]], Awaitable[dict[K, V]]]
    ) -> DataLoader[K, V | None]:
        """Return a loader over a read that leaves out what is not there."""
        # It must not hold these Loaders, which hold it: subscriptions would leave a cycle for each event.
        database = self._server.database

        async def load(keys: list[K]) -> list[V | None]:
            async with database.read() as session:
                found = await read(session, keys)
            return [found.get(key) for key in keys]

        return _loader(load)

    def _tensors(self, read: Callable[..., list[V]]) -> DataLoader[IndexedNeuron, V]:
        """Return a loader that reads each index's tensors once, in a thread."""

        async def load_index(index_id: str, keys: list[IndexedNeuron]) -> Sequence[V | Conflict]:
            return await self._read_index(read, index_id, [key.neuron for key in keys])

        async def load(keys: list[IndexedNeuron]) -> list[V | Refusal]:
            return await _by_group(keys, lambda key: key.index_id, load_index)

        return _loader(load)

    async def _read_index(
        self, read: Callable[..., list[V]], index_id: str, neurons: list[int]
    ) -> Sequence[V | Conflict]:
        try:
            return await neuron_tensors.look(self._server, index_id, read, neurons)
        except Conflict as gone:
            return [gone] * len(neurons)

    async def _load_statistics(self, keys: list[tuple[str, int]]) -> list[StoredStatistics | Refusal | None]:
        # Each of a neuron's fields asks for them: looking for the index here spares each of them one wait.
        indexes = await self._ready_indexes({sae_id for sae_id, _ in keys})

        async def load(
            sae_id: str, keys: list[tuple[str, int]]
        ) -> Sequence[StoredStatistics | Conflict | None]:
            if sae_id not in indexes:
                return [None] * len(keys)
            neurons = [neuron for _, neuron in keys]
            return await self._read_index(neuron_tensors.statistics, indexes[sae_id].id, neurons)

        return await _by_group(keys, lambda key: key[0], load)

    async def _load_statistics_of_pages(
        self, keys: list[PageOfNeurons]
    ) -> list[dict[int, StoredStatistics] | Refusal]:
        indexes = await self._ready_indexes({key.sae_id for key in keys})

        async def load(
            page: PageOfNeurons, _keys: list[PageOfNeurons]
        ) -> list[dict[int, StoredStatistics] | Refusal]:
            if page.sae_id not in indexes or not page.neurons:
                return [{}]
            index_id, read = indexes[page.sae_id].id, neuron_tensors.statistics
            found = await neuron_tensors.look(self._server, index_id, read, page.neurons)
            return [dict(zip(page.neurons, found, strict=True))]

        return await _by_group(keys, lambda key: key, load)

    async def _load_concepts_of_pages(self, keys: list[PageOfNeurons]) -> list[dict[int, Concept]]:
        places = {(key.sae_id, neuron) for key in keys for neuron in key.neurons}
        async with self._server.database.read() as session:
            found = await batches.concepts(session, list(places))
        of_saes: dict[str, dict[int, Concept]] = defaultdict(dict)
        for (sae_id, neuron), row in found.items():
            of_saes[sae_id][neuron] = row
        return [of_saes[key.sae_id] for key in keys]

    async def _load_children(self, keys: list[ChildrenKey]) -> list[Page[Any] | Refusal]:
        async def load(
            group: tuple[Children, str | None, int, str | None], keys: list[ChildrenKey]
        ) -> list[Page[Any]]:
            children, search, first, after = group
            parents = [key.parent_id for key in keys]
            async with self._server.database.read() as session:
                conditions = pages.name_contains(search)
                found = await pages.children(session, children, parents, conditions, first, after)
            return [found[parent] for parent in parents]

        return await _by_group(keys, lambda key: (key.children, key.search, key.first, key.after), load)

    async def _load_children_counts(self, keys: list[ChildrenCountKey]) -> list[int | Refusal]:
        async def load(group: tuple[Children, str | None], keys: list[ChildrenCountKey]) -> list[int]:
            children, search = group
            parents = [key.parent_id for key in keys]
            async with self._server.database.read() as session:
                conditions = pages.name_contains(search)
                counts = await pages.count_children(session, children, parents, conditions)
            return [counts[parent] for parent in parents]

        return await _by_group(keys, lambda key: (key.children, key.search), load)

    async def _load_job_events(self, keys: list[JobEventsKey]) -> list[list[JobEvent] | Refusal]:
        async def load(group: tuple[Any, ...], keys: list[JobEventsKey]) -> list[list[JobEvent] | Conflict]:
            jobs = [key.job_id for key in keys]
            async with self._server.database.read() as session:
                found = await batches.job_events(session, jobs, *group)
            return [found[job] for job in jobs]

        return await _by_group(keys, lambda key: (key.first, key.after, key.types, key.last), load)

    async def _load_training_points(self, keys: list[TrainingPointsKey]) -> list[list[Row[Any]] | Refusal]:
        async def load(max_points: int, keys: list[TrainingPointsKey]) -> list[list[Row[Any]]]:
            saes = [key.sae_id for key in keys]
            async with self._server.database.read() as session:
                found = await batches.training_points(session, saes, max_points)
            return [found[sae] for sae in saes]

        return await _by_group(keys, lambda key: key.max_points, load)

    async def _load_neuron_texts(self, keys: list[NeuronTextsKey]) -> list[Any]:
        # Each field of each neuron asks for texts: looking for the index here spares each of them one wait.
        indexes = await self._ready_indexes({key.sae_id for key in keys})
        sources = await top_texts.sources(self._server, [index.id for index in indexes.values()])

        async def load(
            group: tuple[str, Callable[..., Any], tuple[int, ...]], keys: list[NeuronTextsKey]
        ) -> Sequence[Any]:
            sae_id, show, args = group
            index = indexes.get(sae_id)
            if index is None or index.id not in sources:
                return [None] * len(keys)
            neurons = [key.neuron for key in keys]
            try:
                return await top_texts.read(self._server, sources[index.id], index.id, show, args, neurons)
            except Conflict as gone:
                return [gone] * len(keys)

        return await _by_group(keys, lambda key: (key.sae_id, key.show, key.args), load)

    async def _ready_indexes(self, sae_ids: Collection[str]) -> dict[str, NeuronIndex]:
        """Return SAEs' indexes that are ready, by the SAEs' IDs."""
        found = await self._indexes(sae_ids)
        return {sae_id: index for sae_id, index in found.items() if index.status is ArtifactStatus.READY}

    async def _indexes(self, sae_ids: Collection[str]) -> dict[str, NeuronIndex]:
        found = await self.neuron_indexes.load_many(sae_ids)
        return {sae_id: index for sae_id, index in zip(sae_ids, found, strict=True) if index is not None}

    async def _load_concept_revisions(self, keys: list[tuple[str, int]]) -> list[list[ConceptRevision]]:
        async with self._server.database.read() as session:
            found = await concept_history.revisions(session, keys)
        return [found[key] for key in keys]

    async def _load_evaluations(self, keys: list[EvaluationsKey]) -> list[list[SaeEvaluation] | Refusal]:
        async def load(first: int, keys: list[EvaluationsKey]) -> list[list[SaeEvaluation]]:
            saes = [key.sae_id for key in keys]
            async with self._server.database.read() as session:
                found = await batches.evaluations(session, saes, first)
            return [found[sae] for sae in saes]

        return await _by_group(keys, lambda key: key.first, load)

    async def _load_texts(self, keys: list[TextsKey]) -> Sequence[list[str] | Refusal | None]:
        async def load(group: tuple[int, int], keys: list[TextsKey]) -> Sequence[list[str] | Refusal | None]:
            owners = [key.owner_id for key in keys]
            found = await stored_datasets.read(self._server, owners, *group, self._text_bytes_left)
            texts = [text for one in found if isinstance(one, list) for text in one]
            self._text_bytes_left -= sum(len(text.encode()) for text in texts)
            return found

        return await _by_group(keys, lambda key: (key.first, key.offset), load)

    async def _load_language_model_states(self, keys: list[LanguageModelKey]) -> list[LanguageModelState]:
        return await model_identity.states(self._server, [key.row for key in keys])

    async def _load_token_texts(self, keys: list[TokenKey]) -> list[str | Refusal | None]:
        async def load(language_model_id: str, keys: list[TokenKey]) -> Sequence[str | None]:
            directory = artifacts.copy_directory(self._server.settings, language_model_id)
            token_ids = [key.token_id for key in keys]
            try:
                return await self._server.readers.kept.run(texts_of_tokens, directory, token_ids)
            except ReadingEnded:
                return [None] * len(keys)

        return await _by_group(keys, lambda key: key.language_model_id, load)

    async def _load_neuron_pages(self, keys: list[NeuronsKey]) -> list[neurons.NeuronPage | Refusal]:
        async def load(
            query: neurons.NeuronQuery, keys: list[NeuronsKey]
        ) -> list[neurons.NeuronPage | Refusal]:
            needed = query.selection.reads_index
            indexes = await self._indexes({key.sae_id for key in keys}) if needed else {}
            found = await neurons.pages(self._server, [key.sae for key in keys], indexes, query)
            return [found[key.sae_id] for key in keys]

        return await _by_group(keys, lambda key: key.query, load)

    async def _load_neighbors(self, keys: list[NeighborsKey]) -> list[Neighbors | Refusal]:
        async def load(
            group: tuple[str, neurons.NeuronSelection], keys: list[NeighborsKey]
        ) -> Sequence[Neighbors | Refusal]:
            indices = [key.neuron for key in keys]
            sae_id, selection = group
            indexes = await self._indexes([sae_id]) if selection.reads_index else {}
            found = await neurons.neighbors(
                self._server, keys[0].sae, indexes.get(sae_id), selection, indices
            )
            return [found] * len(keys) if isinstance(found, Refusal) else found

        return await _by_group(keys, lambda key: (key.sae_id, key.selection), load)


class _Loader(DataLoader[K, V]):
    """A loader of which nobody cancels what others wait for as well.

    An error in one field cancels its neighbors, which would take what they wait for along.
    """

    def load(self, key: K) -> Awaitable[V]:
        """Return what becomes the key's value."""
        loading = asyncio.ensure_future(super().load(key))
        return loading if loading.done() else asyncio.shield(loading)


def _loader(
    load: Callable[[list[K]], Awaitable[Sequence[V | Refusal]]], max_keys: int = MAX_KEYS_PER_STATEMENT
) -> DataLoader[K, V]:
    """Return a loader; it raises a refusal for the key that it is the value of."""
    return _Loader(load_fn=load, max_batch_size=max_keys)


async def _by_group(
    keys: list[K], group_of: Callable[[K], G], load: Callable[[G, list[K]], Awaitable[Sequence[V | Refusal]]]
) -> list[V | Refusal]:
    """Load the keys of each group together, and return the values in the order of the keys.

    What a group's load refuses is the value of its keys alone: other fields of the operation did not ask for
    it.
    """
    groups: dict[G, list[K]] = defaultdict(list)
    for key in keys:
        groups[group_of(key)].append(key)
    values: dict[K, V | Refusal] = {}
    for group, of_group in groups.items():
        try:
            loaded = await load(group, of_group)
        except Refusal as refusal:
            loaded = [refusal] * len(of_group)
        values.update(zip(of_group, loaded, strict=True))
    return [values[key] for key in keys]
