"""What jobs were asked for, defaults filled in: an object type for each kind of job."""

from collections.abc import Callable
from typing import Any, TypeVar

import strawberry

from gql_server.api import activation_runs, language_models, saes
from gql_server.api.common import field, interface_type, object_type
from gql_server.api.context import Info
from gql_server.api.datasets import Dataset
from gql_server.api.enums import DatasetKind, FloatType, LongTexts
from gql_server.api.exports import SaeExportFormat
from gql_server.api.references import ActivationRunRef, LanguageModelRef, SaeRef
from gql_server.api.sae_sources import HuggingFaceSae, SaeSourceFormat
from gql_server.api.training import TrainingConfig, training_config
from gql_server.jobs.descriptions import JobDescription, SubjectIds, Subjects
from gql_server.services import job_kinds
from models import Job as JobRow
from models.enums import JobKind

Shown = TypeVar("Shown", bound="type[JobRequest]")
Asked = dict[str, Any]
REQUEST_TYPES: dict[JobKind, tuple["type[JobRequest]", Callable[[Asked], Asked]]] = {}
"""What shows the requests of a kind of job, and what makes its fields of what the handler tells."""


def asks(kind: JobKind, fields_of: Callable[[Asked], Asked] = dict) -> Callable[[Shown], Shown]:
    """Make an object type the one that shows a kind's requests; its fields are what ``describe`` tells."""

    def register(class_: Shown) -> Shown:
        REQUEST_TYPES[kind] = class_, fields_of
        return class_

    return register


@interface_type
class JobRequest:
    """What a job was asked for, defaults filled in: to show, or to fill in a form with.

    Fields of one name have one type in all of them, so that one selection can take them all.
    """

    about: strawberry.Private[Subjects]

    @field
    def language_model(self) -> LanguageModelRef | None:
        """The language model that it is about; null where that has been deleted."""
        row = self.about.language_model
        return language_models.language_model(row) if row else None


def _run_of(about: Subjects) -> ActivationRunRef | None:
    return activation_runs.activation_run(about.activation_run) if about.activation_run else None


def _sae_of(about: Subjects) -> SaeRef | None:
    return saes.sae(about.sae) if about.sae else None


@asks(JobKind.LOAD_LANGUAGE_MODEL)
@object_type
class LoadRequest(JobRequest):
    """A language model to load."""


@asks(JobKind.CAPTURE_ACTIVATIONS)
@object_type
class CaptureRequest(JobRequest):
    """Activations to capture. Null where the run has been deleted."""

    layers: list[str] = strawberry.field(description="As CaptureActivationsInput.layers.")
    sample_offset: int | None = strawberry.field(description="As CaptureActivationsInput.sampleOffset.")
    sample_limit: int | None = strawberry.field(description="As there; null for all texts, too.")
    batch_size: int | None = strawberry.field(description="As CaptureActivationsInput.batchSize.")
    max_length: int | None = strawberry.field(description="As CaptureActivationsInput.maxLength.")
    long_texts: LongTexts | None = strawberry.field(description="As CaptureActivationsInput.longTexts.")
    dtype: FloatType | None = strawberry.field(description="As CaptureActivationsInput.dtype.")
    parts: int = strawberry.field(description="As CaptureActivationsInput.parts.")

    @field
    def activation_run(self) -> ActivationRunRef | None:
        """The run that it captures."""
        return _run_of(self.about)

    @field
    def dataset(self) -> Dataset | None:
        """The texts."""
        run = self.about.activation_run
        return activation_runs.activation_run(run).dataset if run else None


def _with_config(asked: Asked) -> Asked:
    return asked | {"config": training_config(asked["config"]) if asked["config"] else None}


@asks(JobKind.TRAIN_SAE, _with_config)
@object_type
class TrainRequest(JobRequest):
    """An SAE to train."""

    layer: str | None = strawberry.field(description="The layer, whether it was named or the run's only one.")
    sae_class: str = strawberry.field(description="As TrainSaeInput.saeClass.")
    latent_count: int | None = strawberry.field(
        description="Neurons, by default 8 times the layer's width; null where the SAE has been deleted and"
        " an earlier version launched the job."
    )
    k: int | None = strawberry.field(description="As TrainSaeInput.k; null where the class takes none.")
    epochs: int = strawberry.field(description="As TrainSaeInput.epochs.")
    batch_size: int | None = strawberry.field(description="As TrainSaeInput.batchSize.")
    learning_rate: float | None = strawberry.field(
        description="As it was asked for; config has what was chosen where nothing was, like the next."
    )
    l1_lambda: float | None = strawberry.field(description="As it was asked for.")
    seed: int = strawberry.field(description="As TrainSaeInput.seed.")
    device: str | None = strawberry.field(description="As it was asked for; config has the one it ran on.")
    exclude_first_positions: int | None = strawberry.field(
        description="As TrainSaeInput.excludeFirstPositions."
    )
    exclude_outliers: float | None = strawberry.field(description="As TrainSaeInput.excludeOutliers.")
    index_neurons: bool = strawberry.field(description="As TrainSaeInput.indexNeurons.")
    group_fractions: list[float] | None = strawberry.field(description="As TrainSaeInput.groupFractions.")
    config: TrainingConfig | None = strawberry.field(
        description="What was chosen, by the worker too; null until the training has begun."
    )

    @field
    def activation_run(self) -> ActivationRunRef | None:
        """The activations to train on; null where they have been deleted."""
        return _run_of(self.about)

    @field
    def sae(self) -> SaeRef | None:
        """The SAE that it trains; null where that has been deleted."""
        return _sae_of(self.about)


_LEFT_OUT = "Tokens left out at the start of each text: those asked for, else the SAE's own."
_OUTLIERS = "Tokens left out that are longer than so many times the median: as asked for, else the SAE's own."


@asks(JobKind.INDEX_NEURONS)
@object_type
class IndexRequest(JobRequest):
    """Neurons to index."""

    top_texts_per_neuron: int | None = strawberry.field(
        description="As IndexNeuronsInput.topTextsPerNeuron; null where an earlier version launched the job."
    )
    exclude_first_positions: int | None = strawberry.field(description=_LEFT_OUT)
    exclude_outliers: float | None = strawberry.field(description=_OUTLIERS)

    @field
    def sae(self) -> SaeRef | None:
        """The SAE; null where it has been deleted."""
        return _sae_of(self.about)

    @field
    def activation_run(self) -> ActivationRunRef | None:
        """The activations to index over; null where they have been deleted."""
        return _run_of(self.about)


@asks(JobKind.EVALUATE_SAE)
@object_type
class EvaluateRequest(JobRequest):
    """An SAE to evaluate."""

    dataset_kind: strawberry.Private[DatasetKind]
    dataset_description: strawberry.Private[str]
    dataset_sample_count: strawberry.Private[int | None]
    dataset_id: strawberry.Private[str | None]
    sample_offset: int | None = strawberry.field(description="As EvaluateSaeInput.sampleOffset.")
    sample_limit: int | None = strawberry.field(description="As EvaluateSaeInput.sampleLimit.")
    exclude_first_positions: int | None = strawberry.field(description=_LEFT_OUT)
    exclude_outliers: float | None = strawberry.field(description=_OUTLIERS)

    @field
    def sae(self) -> SaeRef | None:
        """The SAE; null where it has been deleted."""
        return _sae_of(self.about)

    @field
    def dataset(self) -> Dataset | None:
        """The texts to measure it on."""
        return Dataset(
            dataset_id=self.dataset_id,
            kind=DatasetKind(self.dataset_kind),
            description=self.dataset_description,
            sample_count=self.dataset_sample_count,
            skipped_row_count=0,
        )


def _import(asked: Asked) -> Asked:
    format, hub = asked["source_format"], asked.get("hugging_face")
    return asked | {
        "source_format": SaeSourceFormat(format) if format else None,
        "hugging_face": HuggingFaceSae(**hub) if hub else None,
    }


@asks(JobKind.IMPORT_SAE, _import)
@object_type
class ImportRequest(JobRequest):
    """An SAE to import."""

    layer: str | None = strawberry.field(description="As ImportSaeInput.layer.")
    output_layer: str | None = strawberry.field(
        description=(
            "As ImportSaeInput.outputLayer, whether it was named or worked out; null but for transcoders."
        )
    )
    source_format: SaeSourceFormat | None = strawberry.field(
        description="The format that it is in; null of one on the Hugging Face Hub until it has been read."
    )
    source: str = strawberry.field(
        description="The path that was given; of one on the Hugging Face Hub after the repository."
    )
    hugging_face: HuggingFaceSae | None = strawberry.field(
        description="What was asked for of the Hugging Face Hub; null for other sources."
    )
    check_fit: bool | None = strawberry.field(
        description="As ImportSaeInput.checkFit; null where an earlier version imported it."
    )
    input_scale: float | None = strawberry.field(description="As ImportSaeInput.inputScale.")
    center_inputs: bool | None = strawberry.field(description="As ImportSaeInput.centerInputs.")

    @field
    def sae(self) -> SaeRef | None:
        """The SAE that it makes; null where that has been deleted."""
        return _sae_of(self.about)


@asks(JobKind.EXPORT_SAE, lambda asked: asked | {"format": SaeExportFormat(asked["format"])})
@object_type
class ExportRequest(JobRequest):
    """An SAE to export."""

    format: SaeExportFormat = strawberry.field(description="As ExportSaeInput.format.")

    @field
    def sae(self) -> SaeRef | None:
        """The SAE; null where it has been deleted."""
        return _sae_of(self.about)


# ---------------------------------------------------------------------------------- rows


async def subjects_of(info: Info, row: JobRow) -> Subjects:
    """Return what a job is about; the rows of all jobs of an answer are read together."""
    loaders, named = info.context.loaders, SubjectIds.of(row)
    # All are asked for before one is awaited, so that each loader reads once for all jobs.
    language_model = loaders.language_models.load(named.language_model) if named.language_model else None
    run = loaders.activation_runs.load(named.activation_run) if named.activation_run else None
    sae = loaders.saes.load(named.sae) if named.sae else None
    return Subjects(
        await language_model if language_model else None,
        await run if run else None,
        await sae if sae else None,
    )


def description_of(row: JobRow, about: Subjects) -> JobDescription:
    """Return what the handler of a job's kind says of it."""
    return job_kinds.BY_KIND[row.kind].describe(row, about)


def job_request(row: JobRow, about: Subjects) -> JobRequest:
    """Return a job's request as it is shown."""
    class_, fields_of = REQUEST_TYPES[row.kind]
    return class_(about=about, **fields_of(description_of(row, about).asked))
