"""What clients ask for, as plain data: the resolvers make these, the services check them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO, Literal

from models.enums import ConceptSource, DatasetKind, FloatType, LanguageModelSourceKind, LongTexts


class Unchanged(Enum):
    """Stands for what a request leaves as it is."""

    UNCHANGED = "UNCHANGED"


UNCHANGED = Unchanged.UNCHANGED
ADDED = {"added": True}
"""Marks a field that requests did not have before: at its default it is no part of a request's hash, so that
idempotency keys of the version before stay good (``launching.request_hash``)."""


@dataclass(frozen=True)
class DatasetRequest:
    """Texts, by one of the kinds; the fields of the other kinds are None."""

    kind: DatasetKind
    texts: Sequence[str] | None = None
    file_name: str | None = None
    """Name of an uploaded file, for its description and format."""
    content: BinaryIO | None = None
    """The uploaded file; it is there as long as the request."""
    path: str | None = None
    text_field: str = "text"
    repository: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    skip_bad_rows: bool = False
    """Leave out rows of a file or a Hub dataset without a text that can be taken, and count them."""
    dataset_id: str | None = field(default=None, metadata=ADDED)
    """Of a stored dataset."""


@dataclass(frozen=True)
class AddLanguageModelRequest:
    """A language model to add."""

    name: str
    kind: LanguageModelSourceKind | None
    """None for a path: the server looks whether it is a directory or a GGUF file."""
    location: str
    revision: str | None
    dtype: FloatType


@dataclass(frozen=True)
class LoadLanguageModelRequest:
    """A language model to load."""

    language_model_id: str
    idempotency_key: str | None = None


@dataclass(frozen=True)
class UpdateLanguageModelRequest:
    """Options of a language model to change; UNCHANGED leaves one as it is."""

    id: str
    add_bos: bool | Unchanged | None
    token_counts: Sequence[tuple[int, bool]] | Unchanged
    expected_version: int | None


@dataclass(frozen=True)
class AcceptLanguageModelRequest:
    """A language model to accept as it is now; for all that belongs to it where nothing is named."""

    language_model_id: str
    fingerprint: str
    sae_id: str | None = None
    activation_run_id: str | None = None


@dataclass(frozen=True)
class CaptureRequest:
    """Activations to capture."""

    language_model_id: str
    layers: Sequence[str]
    dataset: DatasetRequest
    name: str | None
    sample_offset: int
    sample_limit: int | None
    batch_size: int
    max_length: int
    dtype: FloatType
    idempotency_key: str | None
    long_texts: LongTexts = LongTexts.TRUNCATE
    parts: int = field(default=1, metadata=ADDED)


@dataclass(frozen=True)
class TrainRequest:
    """An SAE to train."""

    activation_run_id: str
    layer: str | None
    name: str | None
    sae_class: str
    latent_count: int | None
    k: int | None
    epochs: int
    batch_size: int
    learning_rate: float | None
    l1_lambda: float | None
    seed: int
    device: str | None
    index_neurons: bool
    idempotency_key: str | None
    exclude_first_positions: int = 0
    exclude_outliers: float | None = None
    group_fractions: list[float] | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True)
class IndexRequest:
    """Neurons to index."""

    sae_id: str
    activation_run_id: str | None
    top_texts_per_neuron: int
    idempotency_key: str | None
    exclude_first_positions: int | None = None
    """None for the SAE's own, as the next."""
    exclude_outliers: float | None = None


@dataclass(frozen=True)
class EvaluateRequest:
    """An SAE to evaluate."""

    sae_id: str
    dataset: DatasetRequest
    sample_offset: int
    sample_limit: int
    idempotency_key: str | None
    exclude_first_positions: int | None = None
    """None for the SAE's own, as the next."""
    exclude_outliers: float | None = None


@dataclass(frozen=True)
class ImportSaeRequest:
    """Somebody else's SAE to take over; ``path`` is as the client has named it.

    ``format``, ``layer`` and ``output_layer`` are None where they are to be found out. With ``repository`` it
    is on the Hub, and ``path`` in that; empty for all of it.
    """

    language_model_id: str
    layer: str | None
    name: str | None
    format: Literal["SAE_LENS", "MI_CROW"] | None
    path: str
    idempotency_key: str | None
    output_layer: str | None = None
    """Which layer a transcoder writes; None where that is to be found out."""
    repository: str | None = field(default=None, metadata=ADDED)
    revision: str | None = field(default=None, metadata=ADDED)
    check_fit: bool = field(default=True, metadata=ADDED)
    input_scale: float | None = field(default=None, metadata=ADDED)
    center_inputs: bool | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True)
class ExportSaeRequest:
    """An SAE to write for another library."""

    sae_id: str
    format: Literal["SAE_LENS", "DICTIONARY_LEARNING", "SPARSIFY", "NEURONPEDIA", "PARQUET"]
    idempotency_key: str | None


@dataclass(frozen=True)
class SetConceptRequest:
    """A neuron to name by hand."""

    sae_id: str
    neuron_index: int
    name: str
    score: float | None
    note: str | None
    expected_version: int | None


@dataclass(frozen=True)
class RestoreConceptRequest:
    """A neuron to name as it was named at a version."""

    sae_id: str
    neuron_index: int
    version: int
    expected_version: int | None


@dataclass(frozen=True)
class NamedNeuron:
    """A neuron and its name."""

    neuron_index: int
    name: str
    score: float | None
    note: str | None


@dataclass(frozen=True)
class SetConceptsRequest:
    """Neurons that a program names."""

    sae_id: str
    source: ConceptSource
    concepts: Sequence[NamedNeuron]
    mode: Literal["MERGE", "REPLACE"]


@dataclass(frozen=True)
class ImportConceptsRequest:
    """A file of neurons' names. ``format`` None: told from the content of an upload."""

    sae_id: str
    format: Literal["csv", "json"] | None
    content: str | BinaryIO
    mode: Literal["MERGE", "REPLACE"]


@dataclass(frozen=True)
class EditRequest:
    """latent * multiplier + bias on one neuron."""

    neuron_index: int
    multiplier: float
    bias: float


@dataclass(frozen=True)
class SaveConceptConfigRequest:
    """A config of edits to create (``id`` None) or replace."""

    id: str | None
    sae_id: str
    name: str
    edits: Sequence[EditRequest]
    expected_version: int | None
    validate_only: bool


@dataclass(frozen=True)
class SteeringRequest:
    """Edits to steer by, from a saved config or given here."""

    concept_config_id: str | None
    edits: Sequence[EditRequest] | None
    mode: Literal["ERROR_PRESERVING", "RECONSTRUCTION"]


@dataclass(frozen=True)
class GenerateRequest:
    """Text to generate."""

    language_model_id: str | None
    sae_id: str | None
    prompts: Sequence[str]
    chat: bool
    max_new_tokens: int
    temperature: float
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    stop: Sequence[str] | None
    seed: int | None
    steering: SteeringRequest | None
    compare_to_baseline: bool
    top_log_probabilities: int
    top_neurons: int
    write_top_texts: bool
    exclude_first_positions: int | None = None
    """None for the SAE's own, as the next."""
    exclude_outliers: float | None = None
    watch_neurons: Sequence[int] | None = None


@dataclass(frozen=True)
class Launched:
    """A job row (detached), and whether an earlier request with the same key had made it."""

    job: Any
    replayed: bool


@dataclass(frozen=True)
class TokenRequest:
    """A token of the vocabulary, by one of both."""

    text: str | None = None
    """What it would add to the prompt."""
    token_id: int | None = None


@dataclass(frozen=True)
class AttributeRequest:
    """A token at a prompt's end to attribute to neurons."""

    sae_id: str
    prompt: str
    target: TokenRequest | None = None
    """None is the most probable token."""
    contrast: TokenRequest | None = None
    first: int = 20
    ablate: int = 10
    chat: bool = False
    exclude_first_positions: int | None = None
    exclude_outliers: float | None = None
