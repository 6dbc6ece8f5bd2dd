"""The plain data between the API process and its workers: tasks one way, events and results the other.

Everything is encoded with msgspec; nothing here needs torch. Paths are absolute strings, and API and workers
see the same file system. Floats may be NaN or infinite here; the API makes them null.
"""

from typing import Any, Literal

import msgspec

from gql_server.provenance import IndexProvenance, RunProvenance, SaeProvenance


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class's name tells them apart on the wire."""


# ------------------------------------------------------------------ what tasks are made of


class LanguageModelSource(Message, frozen=True):
    """How to load a language model."""

    id: str
    kind: Literal["HUGGING_FACE", "DIRECTORY", "GGUF"]
    location: str
    """Repository name, or absolute path."""
    revision: str | None
    dtype: str
    """FLOAT32, FLOAT16 or BFLOAT16."""
    copy_dir: str
    """The server's own directory for it: the tokenizer's file, and a GGUF file's converted copy."""


class SaeSource(Message, frozen=True):
    """How to load an SAE."""

    id: str
    sae_class: str
    directory: str
    """Holds sae.pt, metadata.json and perhaps concepts/concepts.json."""
    layer: str
    n_inputs: int
    n_latents: int
    k: int | None


class HubDataset(Message, frozen=True):
    """Texts on the Hugging Face Hub."""

    repository: str
    config: str | None
    split: str
    text_field: str
    revision: str | None


class Edit(Message, frozen=True):
    """latent * multiplier + bias on one neuron."""

    neuron_index: int
    multiplier: float
    bias: float


# ------------------------------------------------------------------------------ tasks


class LoadLanguageModel(Message, frozen=True):
    """Load a language model and describe it. Result: LanguageModelDescription."""

    language_model: LanguageModelSource


class UnloadLanguageModel(Message, frozen=True):
    """Let go of a language model. Result: Done."""

    language_model_id: str


class CaptureActivations(Message, frozen=True):
    """Run texts through a model and store some layers' activations. Result: CaptureResult."""

    run_id: str
    language_model: LanguageModelSource
    layers: list[str]
    dataset_dir: str
    """Arrow dataset with the column text; made by the task itself where hub_dataset is given."""
    hub_dataset: HubDataset | None
    dataset_kind: str
    dataset_description: str
    sample_offset: int
    sample_limit: int | None
    batch_size: int
    max_length: int
    dtype: str
    store_dir: str
    max_texts: int
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    artifact_dir: str = ""
    max_artifact_bytes: int | None = None
    """Bytes that all files in artifact_dir may take."""
    attempt: int = 1


SNAPSHOT_FILE = "snapshot.pt"
"""What a training goes on from, in its sae_dir; of no use once its result is written down."""


class TrainSae(Message, frozen=True):
    """Train an SAE on a stored run. Result: TrainResult.

    Events: TrainingConfigChosen, TrainingPoint; TrainingResumed where it goes on from a snapshot.
    """

    sae_id: str
    name: str
    sae_class: str
    language_model_id: str
    run_id: str
    store_dir: str
    layer: str
    n_latents: int
    k: int | None
    epochs: int
    batch_size: int
    learning_rate: float | None
    l1_lambda: float | None
    seed: int
    device: str | None
    sae_dir: str
    shuffle_buffer_bytes: int
    snapshot_interval_seconds: float = 30.0
    """A snapshot to go on from is written about so often, and less often where that takes long."""
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1


class IndexNeurons(Message, frozen=True):
    """Pass over a stored run with an SAE: statistics and top texts of every neuron. Result: IndexResult."""

    index_id: str
    sae: SaeSource
    run_id: str
    store_dir: str
    dataset_dir: str
    tokenizer_dir: str
    """The language model's copy_dir, which holds tokenizer.json."""
    top_texts_per_neuron: int
    top_texts_path: str
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1
    language_model: LanguageModelSource | None = None
    """Whose unembedding says which tokens a neuron raises; None leaves that out."""


class EvaluateSae(Message, frozen=True):
    """Measure an SAE in its layer's place on texts. Result: EvaluationResult."""

    sae: SaeSource
    language_model: LanguageModelSource
    dataset_dir: str
    """Arrow dataset with the column text; made by the task itself where hub_dataset is given."""
    hub_dataset: HubDataset | None
    dataset_kind: str
    dataset_description: str
    dataset_sample_count: int | None
    """Texts of the whole dataset, where that is known; the directory may hold the first of them."""
    sample_offset: int
    sample_limit: int
    trained_max_length: int | None
    """Tokens per text in the run that the SAE was trained on, if any."""
    max_texts: int
    attempt: int = 1


class ImportSae(Message, frozen=True):
    """Make an SAE of files that somebody else has written. Result: ImportResult."""

    sae_id: str
    name: str
    language_model_id: str
    layer: str
    kind: str
    """The layer's LayerKind of the API, and its depth: what SAELens' hook names are compared with."""
    depth: int | None
    n_inputs: int | None
    """The layer's width, where it is known."""
    max_latents: int
    format: Literal["SAE_LENS", "MI_CROW"]
    source: str
    """As the client has named it."""
    files: dict[str, str]
    """Real paths by name: cfg.json and sae_weights.safetensors, or the checkpoint's."""
    sae_dir: str
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1


class ExportSae(Message, frozen=True):
    """Write an SAE in another library's format, as a ZIP file. Result: ExportResult."""

    sae: SaeSource
    format: Literal["SAE_LENS"]
    path: str
    """Of the ZIP file."""
    metadata: dict[str, str | int | None]
    """For cfg.json."""
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1


class FindTopNeurons(Message, frozen=True):
    """The neurons that fire most on prompts. Result: TopNeuronsResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    prompts: list[str]
    first: int
    per_token: bool


class ContrastNeurons(Message, frozen=True):
    """The neurons that fire more on one set of texts than on another. Result: ContrastResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    texts_a: list[str]
    texts_b: list[str]
    first: int


class Generate(Message, frozen=True):
    """Generate text. Events: TokenGenerated, OutputFinished. Result: GenerateResult."""

    language_model: LanguageModelSource
    sae: SaeSource | None
    prompts: list[str]
    chat: bool
    max_new_tokens: int
    temperature: float
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    stop: list[str]
    seed: int
    edits: list[Edit] | None
    """None generates the baseline; an empty list is steering without effect."""
    mode: Literal["ERROR_PRESERVING", "RECONSTRUCTION"]
    compare_to_baseline: bool
    top_log_probabilities: int
    top_neurons: int
    top_texts_path: str | None
    """Where to write the top-texts JSON file for these prompts, if asked for."""


Task = (
    LoadLanguageModel
    | UnloadLanguageModel
    | CaptureActivations
    | TrainSae
    | IndexNeurons
    | EvaluateSae
    | ImportSae
    | ExportSae
    | FindTopNeurons
    | ContrastNeurons
    | Generate
)


# ----------------------------------------------------------------------------- events


class Progress(Message, frozen=True):
    """How far a task is; the supervisor decides which of these become events."""

    completed: int
    total: int | None
    rate_per_second: float | None = None


class Log(Message, frozen=True):
    """One sentence for people."""

    message: str


class TrainingConfigChosen(Message, frozen=True):
    """A training's configuration with the defaults filled in."""

    epochs: int
    batch_size: int
    k: int | None
    learning_rate: float
    l1_lambda: float
    seed: int
    device: str


class TrainingPoint(Message, frozen=True):
    """Averages over the steps since the point before. Definitions: docs/metrics.md."""

    step: int
    epoch: int
    token_count: int
    loss: float
    mse: float
    explained_variance: float
    l0: float
    dead_fraction: float | None
    learning_rate: float
    tokens_per_second: float


class TrainingResumed(Message, frozen=True):
    """The training goes on after this step; its points so far take the place of all that were sent before."""

    step: int
    points: list[TrainingPoint]


class NeuronActivation(Message, frozen=True):
    """How strongly a neuron fires, and at which token (None in a single token's list)."""

    neuron_index: int
    activation: float
    token_index: int | None = None


class TokenProbability(Message, frozen=True):
    """A token that could have stood in a generated one's place."""

    token_id: int
    text: str
    log_probability: float


class GeneratedToken(Message, frozen=True):
    """One generated token; top_neurons are those at the position whose logits it came from."""

    index: int
    token_id: int
    text: str
    log_probability: float
    alternatives: list[TokenProbability]
    top_neurons: list[NeuronActivation]


class TokenGenerated(Message, frozen=True):
    """A token as it is made."""

    prompt_index: int
    variant: Literal["BASELINE", "STEERED"]
    token: GeneratedToken


class OutputFinished(Message, frozen=True):
    """All of one prompt's output in one variant."""

    prompt_index: int
    prompt: str
    variant: Literal["BASELINE", "STEERED"]
    text: str
    tokens: list[GeneratedToken]
    finish_reason: Literal["LENGTH", "STOP", "END_OF_TEXT", "CANCELED"]
    top_neurons: list[NeuronActivation]
    elapsed_milliseconds: float


Event = (
    Progress | Log | TrainingConfigChosen | TrainingPoint | TrainingResumed | TokenGenerated | OutputFinished
)


# ---------------------------------------------------------------------------- results


class Done(Message, frozen=True):
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


class LanguageModelDescription(Message, frozen=True):
    """What a load found out."""

    architecture: str
    parameter_count: int
    hidden_size: int
    vocabulary_size: int
    layers: list[LayerDescription]
    context_length: int | None = None


class CapturedLayer(Message, frozen=True):
    """A layer of a stored run."""

    name: str
    hidden_size: int


class CaptureResult(Message, frozen=True):
    """A finished capture; the manifest is at <store>/runs/<run id>/manifest.json."""

    layers: list[CapturedLayer]
    dataset_sample_count: int
    sample_count: int
    batch_count: int
    token_count: int
    byte_size: int
    provenance: RunProvenance | None = None


class TrainResult(Message, frozen=True):
    """A finished training; files in sae_dir: sae.pt, metadata.json, history.json."""

    n_inputs: int
    config: TrainingConfigChosen
    final_point: TrainingPoint | None
    provenance: SaeProvenance | None = None


class Histogram(Message, frozen=True):
    """edges has one entry more than counts and ascends."""

    edges: list[float]
    counts: list[int]


class IndexResult(Message, frozen=True):
    """A finished index."""

    token_count: int
    sample_count: int
    dead_count: int
    frequency_histogram: Histogram
    provenance: IndexProvenance | None = None


class EvaluatedDataset(Message, frozen=True):
    """What an evaluation was done on."""

    kind: str
    description: str
    sample_count: int
    sample_offset: int
    sample_limit: int
    sha256: str
    """Over the texts that were selected, as in a run's manifest."""


class EvaluationResult(Message, frozen=True):
    """A finished evaluation; figures are None where undefined or not finite. Definitions: docs/evaluation.md.

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

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return msgspec.structs.asdict(self) | {"dataset": msgspec.structs.asdict(self.dataset)}


class ImportResult(Message, frozen=True):
    """A finished import; files in sae_dir: sae.pt, metadata.json."""

    sae_class: str
    n_inputs: int
    n_latents: int
    k: int | None
    provenance: SaeProvenance | None = None


class ExportResult(Message, frozen=True):
    """A finished export."""

    byte_size: int


class PromptToken(Message, frozen=True):
    """A token of a prompt."""

    index: int
    token_id: int
    text: str
    special: bool


class TokenNeurons(Message, frozen=True):
    """The neurons most active on one token."""

    token_index: int
    token: str
    neurons: list[NeuronActivation]


class PromptNeurons(Message, frozen=True):
    """The neurons most active on one prompt."""

    prompt: str
    tokens: list[PromptToken]
    neurons: list[NeuronActivation]
    per_token: list[TokenNeurons]


class TopNeuronsResult(Message, frozen=True):
    """In the order of the request."""

    prompts: list[PromptNeurons]


class ContrastedNeuron(Message, frozen=True):
    """A neuron's mean latent over each set's tokens that count."""

    neuron_index: int
    mean_a: float
    mean_b: float


class ContrastResult(Message, frozen=True):
    """The largest differences first."""

    neurons: list[ContrastedNeuron]


class GenerateResult(Message, frozen=True):
    """All outputs have been sent as events; this says that there are no more."""

    top_texts_written: bool


Result = (
    Done
    | LanguageModelDescription
    | CaptureResult
    | TrainResult
    | IndexResult
    | EvaluationResult
    | ImportResult
    | ExportResult
    | TopNeuronsResult
    | ContrastResult
    | GenerateResult
)


# -------------------------------------------------------------------- on the wire


Lane = Literal["jobs", "interactive"]


class StartTask(Message, frozen=True):
    """API to worker."""

    task_id: int
    lane: Lane
    task: Task


class CancelTask(Message, frozen=True):
    """API to worker: stop at the next check."""

    task_id: int


class SaeClassDescription(Message, frozen=True):
    """An SAE class that can be trained."""

    name: str
    needs_k: bool


class WorkerReady(Message, frozen=True):
    """Worker to API, once its libraries are imported."""

    devices: list[str]
    """Best first."""
    sae_classes: list[SaeClassDescription]


class LanguageModelChanged(Message, frozen=True):
    """Worker to API: a model was loaded, let go of, or could not be loaded, for whatever task."""

    language_model_id: str
    status: Literal["UNLOADED", "LOADING", "LOADED", "FAILED"]
    message: str | None = None


class WorkerAlive(Message, frozen=True):
    """Worker to API, every second."""

    seconds_at_step: float
    """For how long the task in hand, if any, has not got from one step to the next."""


class TaskBegan(Message, frozen=True):
    """Worker to API: the task waits no more. Until then a cancellation just takes it out of the queue."""

    task_id: int


class TaskEvent(Message, frozen=True):
    """Worker to API."""

    task_id: int
    event: Event


class TaskSucceeded(Message, frozen=True):
    """Worker to API: the last word on a task."""

    task_id: int
    result: Result


class TaskFailed(Message, frozen=True):
    """Worker to API: the last word on a task. ``reason`` is one sentence for people."""

    task_id: int
    code: Literal["INVALID", "CONFLICT", "FAILED", "OUT_OF_MEMORY", "INTERNAL"]
    reason: str
    path: list[str]
    """For INVALID: where in the request's input."""
    traceback: str


class TaskCanceled(Message, frozen=True):
    """Worker to API: the last word on a task."""

    task_id: int


ToWorker = StartTask | CancelTask
FromWorker = (
    WorkerReady
    | WorkerAlive
    | LanguageModelChanged
    | TaskBegan
    | TaskEvent
    | TaskSucceeded
    | TaskFailed
    | TaskCanceled
)
