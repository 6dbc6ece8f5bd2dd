"""Provenance: what it takes to make something again."""

from typing import Any

import msgspec
import strawberry

from gql_server.api.common import BigInt, finite_number, from_row, object_type
from gql_server.api.enums import DatasetKind, FloatType, LanguageModelSourceKind, LongTexts
from gql_server.api.sae_sources import HuggingFaceSae, SaeSourceFormat
from gql_server.api.training import TrainingConfig, training_config
from gql_server.artifacts import provenance as stored
from gql_server.model_files.identity import fingerprint

MATMUL_PRECISION = (
    "Precision of float32 matrix products: highest, or high (TF32) or medium (bfloat16) where the server"
    " is set to that."
)


@object_type
class PackageVersion:
    """A program or library that took part."""

    name: str = strawberry.field(description="Its name on PyPI; python for Python itself.")
    version: str = strawberry.field(description="Its version.")


@object_type
class HashedFile:
    """A file, as it was when it was read."""

    name: str = strawberry.field(description="Its name, without the directory.")
    byte_size: BigInt = strawberry.field(description="Bytes in it.")
    sha256: str = strawberry.field(description="SHA-256 of its bytes, in hexadecimal.")


@object_type
class LanguageModelProvenance:
    """The language model whose activations were captured, as it was then."""

    source_kind: LanguageModelSourceKind = strawberry.field(description="What kind of source it has.")
    source: str = strawberry.field(
        description="The Hugging Face repository, or the name of the directory or GGUF file."
    )
    revision: str | None = strawberry.field(
        description="The repository's commit; null for a directory or a file."
    )
    files: list[HashedFile] = strawberry.field(
        description=(
            "The GGUF file, or the directory's config.json and weights; none for a repository, whose commit"
            " names them."
        )
    )
    dtype: FloatType = strawberry.field(description="Precision of its weights in memory.")
    tokenizer_sha256: str | None = strawberry.field(
        description=(
            "SHA-256 of tokenizer.json in the server's directory for the model; null for a tokenizer without"
            " such a file."
        )
    )
    tokenizer_files: list[HashedFile] = strawberry.field(
        description="The directory's own files of its tokenizer; none where an earlier version made it."
    )
    fingerprint: str | None = strawberry.field(
        description="All of it in one word, as LanguageModel.fingerprint has it; null where no file is known."
    )


@object_type
class HubDatasetProvenance:
    """A dataset on the Hugging Face Hub, as it was asked for."""

    repository: str = strawberry.field(description="Its repository.")
    config: str | None = strawberry.field(description="The configuration, where one was named.")
    split: str = strawberry.field(description="The split.")
    text_field: str = strawberry.field(description="The column with the texts.")
    revision: str | None = strawberry.field(
        description="The revision, where one was named; the texts' hash says what it was."
    )


@object_type
class DatasetProvenance:
    """The texts that were run through the model."""

    kind: DatasetKind = strawberry.field(description="What kind of source they have.")
    description: str = strawberry.field(description="As Dataset.description.")
    hugging_face: HubDatasetProvenance | None = strawberry.field(
        description="Where on the Hugging Face Hub they are; null for other kinds."
    )
    python_version: str | None = strawberry.field(
        description="Which Python's reference it is, for PYTHON_REFERENCE; null for others."
    )
    sample_offset: int = strawberry.field(description="Texts left out at the start.")
    sample_limit: int | None = strawberry.field(description="Texts at most; null for all.")
    sha256: str = strawberry.field(
        description=(
            "SHA-256 over the texts that offset and limit select, in the dataset's order: of each its length"
            " in bytes of UTF-8, as 8 bytes, most significant first, then these bytes."
        )
    )
    skipped_row_count: int = strawberry.field(
        description="As Dataset.skippedRowCount; offset and limit do not count these rows."
    )


@object_type
class ActivationRunProvenance:
    """How activations were captured. Tokens that count are neither padding nor special."""

    language_model: LanguageModelProvenance = strawberry.field(description="Whose activations they are.")
    dataset: DatasetProvenance = strawberry.field(description="The texts.")
    layers: list[str] = strawberry.field(description="The captured layers, by depth.")
    max_length: int = strawberry.field(
        description="Tokens per text, or per piece of one; longTexts says what became of longer texts."
    )
    long_texts: LongTexts = strawberry.field(description="What was done with texts of more tokens.")
    truncated_text_count: int | None = strawberry.field(
        description="Texts that were cut at their end; null where an earlier version captured."
    )
    batch_size: int = strawberry.field(description="Texts per batch; texts of like length are together.")
    dtype: FloatType = strawberry.field(description="Precision of the stored activations.")
    padding_side: str = strawberry.field(description="Where shorter texts of a batch were padded: right.")
    special_token_ids: list[int] = strawberry.field(description="Tokens that do not count, beside padding.")
    add_bos: bool | None = strawberry.field(
        description="The language model's addBos then; null is as the tokenizer does."
    )
    begin_token_ids: list[int] | None = strawberry.field(
        description=(
            "What was written before each text that did not begin so by itself, a BOS for instance; null of"
            " earlier versions, which wrote what the tokenizer does."
        )
    )
    matmul_precision: str = strawberry.field(description=MATMUL_PRECISION)
    non_finite_token_count: BigInt | None = strawberry.field(
        description=(
            "Tokens left out because a captured layer has values there that are NaN or infinite; null where"
            " an earlier version captured it."
        )
    )
    versions: list[PackageVersion] = strawberry.field(description="What captured it.")


@object_type
class TrainingProvenance:
    """How an SAE was trained. The same on the same kind of machine gives the same weights, bit by bit."""

    config: TrainingConfig = strawberry.field(description="Its configuration, defaults filled in.")
    shuffle_seed: BigInt = strawberry.field(
        description=(
            "Seed of torch's generator for the sample that the scale is measured on; each epoch's order has"
            " this seed plus the epoch's number, counted from 1."
        )
    )
    shuffle_buffer_rows: BigInt = strawberry.field(
        description="Tokens that were shuffled with one another; tokenCount where all were."
    )
    activation_scale: float = strawberry.field(
        description="What activations were multiplied with in training; the weights have it no more."
    )
    dead_window: BigInt = strawberry.field(
        description="Training tokens over which a neuron must not fire to count as dead."
    )
    batch_count: int = strawberry.field(
        description="Stored batches of the run that it was trained on: not all, where the run was PARTIAL."
    )
    token_count: BigInt = strawberry.field(description="Tokens in them that count.")
    thread_count: int = strawberry.field(
        description="Threads of torch on the CPU; another number gives other last digits."
    )
    matmul_precision: str = strawberry.field(description=MATMUL_PRECISION)
    excluded_token_count: BigInt = strawberry.field(
        description="Tokens of the run that config's exclusions leave out; not among tokenCount."
    )
    non_finite_token_count: BigInt = strawberry.field(
        description="Tokens left out for values that are NaN or infinite, in a run of an earlier version."
    )


@object_type
class SaeProvenance:
    """Where an SAE comes from: a training over a run, or the files that an import has read."""

    checkpoint_sha256: str = strawberry.field(description="SHA-256 of its checkpoint, in hexadecimal.")
    sae_class: str = strawberry.field(description="The registered SAE class.")
    input_size: int = strawberry.field(description="Width of the activations, n_inputs.")
    latent_count: int = strawberry.field(description="Number of neurons, n_latents.")
    layer: str = strawberry.field(description="The layer that it was made for.")
    activation_run_id: strawberry.ID | None = strawberry.field(
        description="The run that it was trained on; null where it was imported."
    )
    activation_run: ActivationRunProvenance | None = strawberry.field(
        description="That run's provenance; null where it was imported, or the run is of an earlier version."
    )
    training: TrainingProvenance | None = strawberry.field(
        description="How it was trained; null where it was imported."
    )
    language_model: LanguageModelProvenance | None = strawberry.field(
        description="The model that it was imported for, as it was then; null where it was trained here."
    )
    source_files: list[HashedFile] = strawberry.field(
        description="The files that it was imported from; none where it was trained here."
    )
    source_format: SaeSourceFormat | None = strawberry.field(
        description=(
            "Their format; null where it was trained here, and where an earlier version imported it: its"
            " import's Job.request says it then."
        )
    )
    hugging_face: HuggingFaceSae | None = strawberry.field(
        description="Where on the Hugging Face Hub they are from, at which commit; null for others."
    )
    source_prepends_bos: bool | None = strawberry.field(
        description=(
            "Whether the texts that its authors trained it on began with a BOS; null where its files do not"
            " say, and where it was trained here."
        )
    )
    writes_bos: bool | None = strawberry.field(
        description=(
            "Whether one was written before texts of the language model when it was imported; null where"
            " that was not known, and where it was trained here."
        )
    )
    input_scale: float | None = strawberry.field(
        description="ImportSaeInput.inputScale, which is folded into its weights; null where there was none."
    )
    inputs_centered: bool = strawberry.field(
        description="Whether its encoder was made to take each token's mean out of its input."
    )
    metric_definitions_version: int = strawberry.field(
        description="Which definitions the figures of its training follow; see docs/metrics.md."
    )
    versions: list[PackageVersion] = strawberry.field(description="What trained or imported it.")


@object_type
class NeuronIndexProvenance:
    """How a neuron index was made."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE whose neurons they are.")
    sae_checkpoint_sha256: str = strawberry.field(
        description="SHA-256 of its checkpoint, as SaeProvenance.checkpointSha256."
    )
    activation_run_id: strawberry.ID = strawberry.field(description="The run that it passed over.")
    activation_run: ActivationRunProvenance | None = strawberry.field(
        description="That run's provenance; null where the run is of an earlier version."
    )
    batch_count: int = strawberry.field(
        description="Stored batches of the run that it passed over: not all, where the run was PARTIAL."
    )
    top_texts_per_neuron: int = strawberry.field(description="How many top texts it keeps.")
    exclude_first_positions: int = strawberry.field(
        description="Tokens left out at the start of each text, special ones included; 0 for none."
    )
    exclude_outliers: float | None = strawberry.field(
        description="Tokens were left out whose activations are longer than so many times medianNorm."
    )
    median_norm: float | None = strawberry.field(
        description="Median length of activations that excludeOutliers is about; null where none was needed."
    )
    excluded_token_count: BigInt = strawberry.field(description="Tokens of the run that this left out.")
    non_finite_token_count: BigInt = strawberry.field(
        description="Tokens left out for values that are NaN or infinite, in a run of an earlier version."
    )
    language_model: LanguageModelProvenance | None = strawberry.field(
        description="The model that says which tokens neurons raise; null where that was left out."
    )
    metric_definitions_version: int = strawberry.field(
        description="Which definitions its figures follow; see docs/metrics.md."
    )
    versions: list[PackageVersion] = strawberry.field(description="What made it.")


def run_provenance(content: dict[str, Any] | None) -> ActivationRunProvenance | None:
    """Return a run's stored provenance as it is shown; None where there is none."""
    return _run(msgspec.convert(content, stored.RunProvenance)) if content else None


def sae_provenance(content: dict[str, Any] | None) -> SaeProvenance | None:
    """Return an SAE's stored provenance as it is shown; None where there is none."""
    if content is None:
        return None
    found = msgspec.convert(content, stored.SaeProvenance)
    return from_row(
        SaeProvenance,
        found,
        input_size=found.n_inputs,
        latent_count=found.n_latents,
        activation_run=_run(found.run),
        training=_training(found.training),
        language_model=language_model_provenance(found.language_model),
        source_files=_files(found.source_files),
        source_format=SaeSourceFormat(found.source_format) if found.source_format else None,
        hugging_face=from_row(HuggingFaceSae, found.hugging_face) if found.hugging_face else None,
        versions=_versions(found.versions),
    )


def index_provenance(content: dict[str, Any] | None) -> NeuronIndexProvenance | None:
    """Return an index's stored provenance as it is shown; None where there is none."""
    if content is None:
        return None
    found = msgspec.convert(content, stored.IndexProvenance)
    return from_row(
        NeuronIndexProvenance,
        found,
        activation_run=_run(found.run),
        language_model=language_model_provenance(found.language_model),
        versions=_versions(found.versions),
    )


def language_model_provenance(found: stored.LanguageModelProvenance | None) -> LanguageModelProvenance | None:
    """Return which model something was computed with as it is shown; None where that is not known."""
    return None if found is None else _language_model(found)


def _run(found: stored.RunProvenance | None) -> ActivationRunProvenance | None:
    if found is None:
        return None
    return from_row(
        ActivationRunProvenance,
        found,
        language_model=_language_model(found.language_model),
        dataset=_dataset(found.dataset),
        dtype=FloatType(found.dtype),
        long_texts=LongTexts(found.long_texts),
        versions=_versions(found.versions),
    )


def _language_model(found: stored.LanguageModelProvenance) -> LanguageModelProvenance:
    return from_row(
        LanguageModelProvenance,
        found,
        source_kind=LanguageModelSourceKind(found.source_kind),
        files=_files(found.files),
        tokenizer_files=_files(found.tokenizer_files),
        fingerprint=fingerprint(found),
        dtype=FloatType(found.dtype),
    )


def _dataset(found: stored.DatasetProvenance) -> DatasetProvenance:
    hub = from_row(HubDatasetProvenance, found.hugging_face) if found.hugging_face else None
    return from_row(DatasetProvenance, found, kind=DatasetKind(found.kind), hugging_face=hub)


def _training(found: stored.TrainingProvenance | None) -> TrainingProvenance | None:
    if found is None:
        return None
    return from_row(
        TrainingProvenance,
        found,
        config=training_config(found.config),
        activation_scale=finite_number(found.activation_scale),
    )


def _files(found: list[stored.FileHash]) -> list[HashedFile]:
    return [from_row(HashedFile, file) for file in found]


def _versions(found: dict[str, str]) -> list[PackageVersion]:
    return [PackageVersion(name=name, version=version) for name, version in found.items()]
