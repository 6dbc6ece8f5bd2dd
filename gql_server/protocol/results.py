"""What a task comes to."""

from typing import Any

import msgspec

from gql_server.artifacts.provenance import (
    IndexProvenance,
    LanguageModelProvenance,
    RunProvenance,
    SaeProvenance,
    to_json,
)
from gql_server.formats.input_normalizations import InputNormalization
from gql_server.protocol.base import Message
from gql_server.protocol.events import (
    NeuronActivationMessage,
    PromptToken,
    TokenProbability,
    TrainingConfigChosen,
    TrainingPointMessage,
)
from gql_server.protocol.exclusions import Exclusions
from gql_server.tokens.options import TokenizerFacts


class Result(Message, frozen=True):
    """Base of all results; wire.py has every subclass decoded."""


class Done(Result, frozen=True):
    """A task without a result of its own has ended well."""


class LayerDescription(Message, frozen=True):
    """A hookable module of a language model."""

    name: str
    kind: str
    """A LayerKind of the API."""
    depth: int | None
    module_class: str
    width: int | None = None
    """The last dimension of its output."""


class LanguageModelDescription(Result, frozen=True):
    """What a load found out."""

    architecture: str
    parameter_count: int
    hidden_size: int
    vocabulary_size: int
    layers: list[LayerDescription]
    context_length: int | None = None
    tokenizer: TokenizerFacts | None = None
    origin: LanguageModelProvenance | None = None
    """What was loaded, by its hashes."""


class CapturedLayer(Message, frozen=True):
    """A layer of a stored run."""

    name: str
    hidden_size: int


class CaptureResult(Result, frozen=True):
    """A finished capture; the manifest is at <store>/runs/<run id>/manifest.json."""

    layers: list[CapturedLayer]
    dataset_sample_count: int
    sample_count: int
    batch_count: int
    token_count: int
    byte_size: int
    provenance: RunProvenance | None = None
    dataset_skipped_count: int = 0
    piece_count: int | None = None
    truncated_text_count: int | None = None


class OutlierStatistics(Message, frozen=True):
    """A finished SAE on tokens of its run, with outliers and without. Definitions: docs/metrics.md."""

    median_norm: float
    multiple: float
    """Of the median: tokens that are longer are outliers, and so are those that the training left out."""
    token_count: int
    """Tokens that were measured, all of them."""
    outlier_count: int
    explained_variance_with_outliers: float | None
    explained_variance_without_outliers: float | None


class TrainResult(Result, frozen=True):
    """A finished training; files in sae_dir: sae.pt, metadata.json, history.json."""

    n_inputs: int
    config: TrainingConfigChosen
    final_point: TrainingPointMessage | None
    provenance: SaeProvenance | None = None
    outliers: OutlierStatistics | None = None


class HistogramMessage(Message, frozen=True):
    """edges has one entry more than counts and ascends."""

    edges: list[float]
    counts: list[int]


class IndexResult(Result, frozen=True):
    """A finished index."""

    token_count: int
    sample_count: int
    dead_count: int
    frequency_histogram: HistogramMessage
    provenance: IndexProvenance | None = None
    exclusions: Exclusions = Exclusions()
    excluded_token_count: int = 0
    non_finite_token_count: int = 0
    """Tokens left out beside those excluded; neither are among token_count."""
    language_model: LanguageModelProvenance | None = None
    """Whose unembedding says which tokens neurons raise; None where that was left out."""


class EvaluatedDataset(Message, frozen=True):
    """What an evaluation was done on."""

    kind: str
    description: str
    sample_count: int
    sample_offset: int
    sample_limit: int
    sha256: str
    """Over the texts that were selected, as in a run's manifest."""
    skipped_row_count: int = 0
    """Bad rows of the source that are not among its texts."""


class EvaluationResult(Result, frozen=True):
    """A finished evaluation; what is undefined or not finite is None. Definitions: docs/evaluation.md.

    Written into the SAE's metadata.json already.
    """

    dataset: EvaluatedDataset
    sample_count: int
    """Texts that were measured on: those selected that have a token that counts."""
    max_length: int
    token_count: int
    predicted_token_count: int
    mse: float | None
    explained_variance: float | None
    l0: float | None
    dead_fraction: float | None
    dead_window_tokens: int
    cosine_similarity: float | None
    relative_reconstruction_bias: float | None
    ce_loss_original: float | None
    ce_loss_reconstructed: float | None
    ce_loss_zero_ablated: float | None
    ce_loss_recovered: float | None
    kl_divergence_reconstructed: float | None
    metric_definitions_version: int
    evaluated_at: str
    """An ISO 8601 time with its offset."""
    truncated_text_count: int | None = None
    """Selected texts that were cut at max_length; None in results of earlier versions."""
    exclude_first_positions: int = 0
    exclude_outliers: float | None = None
    median_norm: float | None = None
    excluded_token_count: int = 0
    non_finite_token_count: int = 0
    outlier_count: int | None = None
    """Tokens excluded, or longer than exclude_outliers, else 10, times the median; None without a median."""
    explained_variance_with_outliers: float | None = None
    explained_variance_without_outliers: float | None = None
    language_model: LanguageModelProvenance | None = None
    """The model that it was measured with; None in evaluations of earlier versions."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        nested = {"dataset": self.dataset, "language_model": self.language_model}
        return msgspec.structs.asdict(self) | {name: to_json(value) for name, value in nested.items()}


class SaeFit(Message, frozen=True):
    """How an imported SAE reconstructs the layer's output on the built-in texts."""

    explained_variance: float | None
    l0: float | None
    stated_l0: float | None
    """What its source states."""
    mean_norm: float | None
    """Of the activations that counted."""
    text_count: int
    token_count: int
    warnings: list[str] = []


class ImportResult(Result, frozen=True):
    """A finished import; files in sae_dir: sae.pt, metadata.json."""

    sae_class: str
    n_inputs: int
    n_latents: int
    k: int | None
    provenance: SaeProvenance | None = None
    input_normalization: InputNormalization = "NONE"
    fit: SaeFit | None = None
    """None where it was not to be checked, or could not be."""


class ExportResult(Result, frozen=True):
    """A finished export."""

    byte_size: int


class TokenNeurons(Message, frozen=True):
    """The neurons most active on one token."""

    token_index: int
    token: str
    neurons: list[NeuronActivationMessage]


class PromptNeurons(Message, frozen=True):
    """The neurons most active on one prompt."""

    prompt: str
    tokens: list[PromptToken]
    neurons: list[NeuronActivationMessage]
    per_token: list[TokenNeurons]


class TopNeuronsResult(Result, frozen=True):
    """In the order of the request."""

    prompts: list[PromptNeurons]


class ContrastedNeuron(Message, frozen=True):
    """A neuron's mean latent over each set's tokens that count."""

    neuron_index: int
    mean_a: float
    mean_b: float


class ContrastResult(Result, frozen=True):
    """The largest differences first."""

    neurons: list[ContrastedNeuron]
    """Those with a higher mean on texts A."""
    neurons_b: list[ContrastedNeuron]
    """Those with a higher mean on texts B."""


class PromptLatentRows(Message, frozen=True):
    """Some neurons' latents on a prompt."""

    prompt: str
    tokens: list[PromptToken]
    latents: bytes
    """Little-endian float32, [n_neurons, n_tokens]: neurons in the request's order."""


class NeuronActivationsResult(Result, frozen=True):
    """In the order of the request."""

    prompts: list[PromptLatentRows]


class AttributedNeuron(Message, frozen=True):
    """What a neuron has to do with the score of an AttributionResult."""

    neuron_index: int
    effect: float
    """Gradient times latent, summed over tokens."""
    ablation_effect: float | None
    """The score less what it is without the neuron; None where that was not tried."""
    activation: float
    """Its highest latent."""
    token_index: int
    """At which token that is."""
    token_effects: bytes
    """Gradient times latent at each token: little-endian float32, [n_tokens]."""


class AttributionResult(Result, frozen=True):
    """Effects on a score: the target's log-probability, less the contrast's where there is one.

    ``neurons_effect`` (of all neurons), ``error_effect``, ``bias_effect`` and ``left_out_effect`` are the
    gradient of the score times the parts of the layer's output.
    """

    prompt: str
    tokens: list[PromptToken]
    target: TokenProbability
    contrast: TokenProbability | None
    neurons: list[AttributedNeuron]
    """The largest effects first, either way."""
    neurons_effect: float
    error_effect: float
    bias_effect: float
    left_out_effect: float


class GenerateResult(Result, frozen=True):
    """All outputs have been sent as events; this says that there are no more."""

    top_texts_written: bool
