"""What it takes to make a run, an SAE or a neuron index again: what from, how, and by which versions.

Written into the run's ``manifest.json``, the SAE's ``metadata.json`` and the index's ``provenance.json``, and
kept as JSON in their rows, where it stays as it was written: a field that is added needs a default.
docs/provenance.md says how each hash is computed.
"""

from typing import Any

import msgspec

PROVENANCE_FILE = "provenance.json"
"""A neuron index's provenance, beside its tensors."""


class FileHash(msgspec.Struct, frozen=True):
    """A file that something was made from."""

    name: str
    """Within its directory, never where on this machine it is."""
    byte_size: int
    sha256: str


class LanguageModelProvenance(msgspec.Struct, frozen=True):
    """Whose activations they are."""

    source_kind: str
    source: str
    """Repository, or the name of the directory or GGUF file."""
    revision: str | None
    """Commit of the repository; None for what is no repository."""
    files: list[FileHash]
    """Configuration and weights, or the GGUF file; none of a repository, whose commit says it."""
    dtype: str
    tokenizer_sha256: str | None
    """Of the server's tokenizer.json of the model; None where its tokenizer has no such form."""
    tokenizer_files: list[FileHash] = []
    """Of a directory, the tokenizer's own files; none in what earlier versions have made."""


class HubDatasetProvenance(msgspec.Struct, frozen=True):
    """A dataset on the Hugging Face Hub, as it was asked for."""

    repository: str
    config: str | None
    split: str
    text_field: str
    revision: str | None


class DatasetProvenance(msgspec.Struct, frozen=True):
    """The texts that were run through the model."""

    kind: str
    description: str
    hugging_face: HubDatasetProvenance | None
    python_version: str | None
    """Of the Python that carries them, for the built-in dataset."""
    sample_offset: int
    sample_limit: int | None
    sha256: str
    """Over the texts that offset and limit select, in order, each after its length in bytes of UTF-8."""
    skipped_row_count: int = 0
    """Bad rows of the source that are not among the texts, so that offset and limit do not count them."""


class RunProvenance(msgspec.Struct, frozen=True):
    """How activations were captured. Tokens that count are neither padding nor special, and finite."""

    language_model: LanguageModelProvenance
    dataset: DatasetProvenance
    layers: list[str]
    max_length: int
    batch_size: int
    dtype: str
    padding_side: str
    special_token_ids: list[int]
    versions: dict[str, str]
    matmul_precision: str = "highest"
    """As a training's."""
    long_texts: str = "TRUNCATE"
    """As the manifest's."""
    truncated_text_count: int | None = None
    """As the manifest's."""
    non_finite_token_count: int | None = None
    """Tokens left out for values that are NaN or infinite; None where an earlier version captured."""
    add_bos: bool | None = None
    """The language model's option; None is as its tokenizer does."""
    begin_token_ids: list[int] | None = None
    """As the manifest's."""


class TrainingProvenance(msgspec.Struct, frozen=True):
    """How an SAE was trained."""

    config: dict[str, Any]
    """Without gaps, as metadata.json's training_config."""
    shuffle_seed: int
    shuffle_buffer_rows: int
    activation_scale: float
    dead_window: int
    batch_count: int
    """Stored batches of the run, which may have been incomplete then."""
    token_count: int
    thread_count: int
    matmul_precision: str = "highest"
    """As ``torch.set_float32_matmul_precision`` has it; earlier versions had nothing else."""
    excluded_token_count: int = 0
    """Tokens of the run that the configuration's exclusions leave out; not among token_count."""
    non_finite_token_count: int = 0
    """Tokens left out for values that are not finite, of a run that an earlier version captured."""


class HubSaeProvenance(msgspec.Struct, frozen=True):
    """An SAE on the Hugging Face Hub."""

    repository: str
    path: str
    """In it, as it was asked for; empty for all of it."""
    revision: str
    """The commit."""


class SaeProvenance(msgspec.Struct, frozen=True):
    """Where an SAE comes from: a training, or the files that an import read."""

    sae_class: str
    n_inputs: int
    n_latents: int
    layer: str
    checkpoint_sha256: str
    activation_run_id: str | None
    run: RunProvenance | None
    training: TrainingProvenance | None
    metric_definitions_version: int
    versions: dict[str, str]
    source_files: list[FileHash] = []
    language_model: LanguageModelProvenance | None = None
    """Of an imported SAE, the model that it was imported for, as it was then; a run has its own."""
    source_format: str | None = None
    """The format of source_files; None where it was trained here, or an earlier version imported it."""
    hugging_face: HubSaeProvenance | None = None
    """Where source_files are from; None of files in a model directory."""
    source_prepends_bos: bool | None = None
    """Whether the texts that it was trained on began with a BOS; None where source_files do not say."""
    writes_bos: bool | None = None
    """Whether the language model wrote one before texts when it was imported; None where nobody knows."""
    input_scale: float | None = None
    """A factor of its inputs that a request named, folded into its weights."""
    inputs_centered: bool = False
    """Whether its encoder was made to take each token's mean out of its input."""


class IndexProvenance(msgspec.Struct, frozen=True):
    """How a neuron index was made."""

    sae_id: str
    sae_checkpoint_sha256: str
    activation_run_id: str
    run: RunProvenance | None
    batch_count: int
    top_texts_per_neuron: int
    metric_definitions_version: int
    versions: dict[str, str]
    exclude_first_positions: int = 0
    exclude_outliers: float | None = None
    median_norm: float | None = None
    excluded_token_count: int = 0
    non_finite_token_count: int = 0
    """Tokens left out, as a training's."""
    language_model: LanguageModelProvenance | None = None
    """Whose unembedding says which tokens neurons raise; None where that was left out."""


def to_json(provenance: msgspec.Struct | None) -> dict[str, Any] | None:
    """Return what a JSON column keeps."""
    return None if provenance is None else msgspec.to_builtins(provenance)
