"""What a worker can be asked to do."""

from typing import ClassVar, Literal

from gql_server.protocol.base import Message
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import (
    Edit,
    HubDataset,
    HubSae,
    LanguageModelSource,
    MadeWith,
    NeuronsSource,
    SaeSource,
)


class Task(Message, frozen=True):
    """Base of all tasks; wire.py has every subclass decoded."""

    needs_language_model: ClassVar[bool] = False
    """Whether the files of its ``language_model`` have to be here before it begins."""
    asks_hub_anew: ClassVar[bool] = False
    """Whether it wants the newest state of that language model, though another is in the Hub's cache."""

    def language_model_needed(self) -> LanguageModelSource | None:
        """Return the language model whose files have to be here before it begins."""
        return getattr(self, "language_model", None) if self.needs_language_model else None

    def texts_needed(self, patience_seconds: float) -> "DownloadTexts | None":
        """Return what gets the texts of the Hub that have to be here before it begins."""
        return None

    def sae_needed(self) -> "DownloadSae | None":
        """Return what gets the files of an SAE of the Hub that have to be here before it begins."""
        return None

    def steps(self) -> list[list["Task"]]:
        """Return what is to be done before it, step by step; the tasks of a step may go side by side."""
        return []

    def subject(self) -> dict[str, str]:
        """Return the IDs of what it is about, as log lines name them; an SAE and its run say which model."""
        found: dict[str, str] = {}
        for name in ("sae", "run", "language_model"):
            part = getattr(self, name, None)
            id = getattr(self, f"{name}_id", None) if part is None else part.id
            if id is not None and len(found) < 2:
                found[name] = id
        return found


class LoadLanguageModel(Task, frozen=True):
    """Load a language model and describe it. Result: LanguageModelDescription."""

    language_model: LanguageModelSource
    needs_language_model = asks_hub_anew = True


class UnloadLanguageModel(Task, frozen=True):
    """Let go of a language model. Result: Done."""

    language_model_id: str


class TextsTask(Task, frozen=True):
    """Base of tasks that run a dataset's texts through a language model."""

    language_model: LanguageModelSource
    dataset_dir: str
    """Arrow dataset with the column text; made by DownloadTexts where hub_dataset is given."""
    hub_dataset: HubDataset | None
    dataset_kind: str
    dataset_description: str
    sample_offset: int
    sample_limit: int | None
    max_texts: int
    needs_language_model = True

    def texts_needed(self, patience_seconds: float) -> "DownloadTexts | None":
        """Return what gets as many of the first texts as are wanted."""
        if self.hub_dataset is None:
            return None
        wanted = None if self.sample_limit is None else self.sample_offset + self.sample_limit
        return DownloadTexts(self.hub_dataset, self.dataset_dir, wanted, self.max_texts, patience_seconds)


class CaptureActivations(TextsTask, frozen=True):
    """Run texts through a model and store some layers' activations. Result: CaptureResult."""

    run_id: str
    layers: list[str]
    batch_size: int
    max_length: int
    dtype: str
    store_dir: str
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    artifact_dir: str = ""
    max_artifact_bytes: int | None = None
    """Bytes that all files in artifact_dir may take."""
    long_texts: Literal["TRUNCATE", "SPLIT"] = "TRUNCATE"
    """Of texts with more than max_length tokens, capture the beginning, or all in pieces."""
    attempt: int = 1
    parts: int = 1
    """Into how many the forward passes are divided; the task itself does what of these is missing."""

    def steps(self) -> list[list[Task]]:
        """Return the plan and the parts, where there are several."""
        parts = [CapturePart(self, part) for part in range(self.parts)]
        return [[PlanCapture(self)], [*parts]] if self.parts > 1 else []


class CaptureStep(Task, frozen=True):
    """Base of what comes before a capture in several parts."""

    capture: CaptureActivations

    def language_model_needed(self) -> LanguageModelSource | None:
        """Return the capture's."""
        return self.capture.language_model

    def subject(self) -> dict[str, str]:
        """Return the capture's."""
        return self.capture.subject()


class PlanCapture(CaptureStep, frozen=True):
    """Write the plan of a capture, unless an earlier attempt has. Result: Done."""


class CapturePart(CaptureStep, frozen=True):
    """Store those batches of a planned capture that are one part's. Result: Done."""

    part: int
    """Which one, from 0."""


SNAPSHOT_FILE = "snapshot.pt"
"""What a training goes on from, in its sae_dir; of no use once its result is written down."""


class TrainSae(Task, frozen=True):
    """Train an SAE on a stored run. Result: TrainResult.

    Events: TrainingConfigChosen, TrainingPointMessage; TrainingResumed where it goes on from a snapshot.
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
    exclusions: Exclusions = Exclusions()
    snapshot_interval_seconds: float = 30.0
    """A snapshot to go on from is written about so often, and less often where that takes long."""
    group_fractions: list[float] | None = None
    """Shares of the neurons in nested groups, each to reconstruct with those before it; None for one."""
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1


class IndexNeurons(Task, frozen=True):
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
    exclusions: Exclusions = Exclusions()
    language_model: LanguageModelSource | None = None
    """Whose unembedding says which tokens a neuron raises; None leaves that out."""
    needs_language_model = True
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""


class EvaluateSae(TextsTask, frozen=True):
    """Measure an SAE in its layer's place on texts. Result: EvaluationResult."""

    sae: SaeSource
    dataset_sample_count: int | None
    """Texts of the whole dataset, where that is known; the directory may hold the first of them."""
    sample_limit: int
    trained_max_length: int | None
    """Tokens per text in the run that the SAE was trained on, if any."""
    attempt: int = 1
    exclusions: Exclusions = Exclusions()
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""


DOWNLOADED_FILE = "download.json"
"""What a DownloadSae has written in its directory once all is there."""


class ImportSae(Task, frozen=True):
    """Make an SAE of files that somebody else has written. Result: ImportResult."""

    sae_id: str
    name: str
    language_model_id: str
    layer: str
    kind: str
    """The layer's LayerKind of the API, and its depth: what the source's name of a place is compared with."""
    depth: int | None
    n_inputs: int | None
    """The layer's width, where it is known."""
    max_latents: int
    format: str
    """A key of formats/sae_sources/registry.py; empty where the download tells it."""
    source: str
    """As the client has named it."""
    files: dict[str, str]
    """Real paths by name, the configuration first; none where the download tells them."""
    roots: list[str]
    """Real paths of the model directories, under which the files must still lie."""
    sae_dir: str
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1
    writes_bos: bool | None = None
    """Whether the language model writes a BOS before texts; None where that is not known."""
    norms_behind: bool | None = None
    """Whether it has norms behind attention and MLP, as Gemma 2 has; None where that is not known."""
    language_model: LanguageModelSource | None = None
    """Noted in the provenance as it is now; None in tasks of earlier versions."""
    named_layer: str | None = None
    """The layer that the source's name of a place means; None where that is not known."""
    output_layer: str | None = None
    """Which layer a transcoder writes; None for an SAE that writes the layer that it reads."""
    output_kind: str | None = None
    output_depth: int | None = None
    n_outputs: int | None = None
    """The output layer's LayerKind and depth, and its width where that is known."""
    download: "DownloadSae | None" = None
    """What gets its files; None where they lie in a model directory."""
    check_fit: bool = False
    """Whether to run the built-in texts through the language model, and the SAE over them."""
    parameter_count: int | None = None
    """The language model's, where it is known."""
    input_scale: float | None = None
    """What its inputs were multiplied by in its training, where its files leave that out."""
    center_inputs: bool | None = None
    """Whether each token's mean was taken out of them; None for what its source says."""
    stated_l0: float | None = None
    """Active neurons per token, where the list of public SAEs states them."""
    has_layer_norms: bool | None = None
    """Whether TransformerLens centers what the language model writes; None where that is not known."""

    def sae_needed(self) -> "DownloadSae | None":
        """Return what gets its files."""
        return self.download


class ExportSae(Task, frozen=True):
    """Write an SAE in another library's format, or its neurons, as a ZIP file. Result: ExportResult."""

    sae: SaeSource
    format: Literal["SAE_LENS", "DICTIONARY_LEARNING", "SPARSIFY", "NEURONPEDIA", "PARQUET"]
    path: str
    """Of the ZIP file."""
    metadata: dict[str, str | bool | int | dict[str, str] | None]
    """What the file says of where the SAE belongs."""
    min_free_bytes: int = 0
    """Bytes of the disk that the task leaves free."""
    attempt: int = 1
    neurons: NeuronsSource | None = None
    """What is written of neurons, in the last two formats."""


class FindTopNeurons(Task, frozen=True):
    """The neurons that fire most on prompts. Result: TopNeuronsResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    prompts: list[str]
    first: int
    per_token: bool
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""
    exclusions: Exclusions = Exclusions()
    chats: list[str] | None = None
    """What the chat template has made of the prompts; None where they are taken as they are."""


class ContrastNeurons(Task, frozen=True):
    """The neurons that fire more on one set of texts than on another. Result: ContrastResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    texts_a: list[str]
    texts_b: list[str]
    first: int
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""
    exclusions: Exclusions = Exclusions()


class ReadNeuronActivations(Task, frozen=True):
    """Chosen neurons' latents on every token of prompts. Result: NeuronActivationsResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    prompts: list[str]
    chats: list[str] | None
    """What the chat template has made of the prompts; None where they are taken as they are."""
    neuron_indices: list[int]
    """Each once."""
    max_tokens: int
    """Of all prompts."""
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""
    exclusions: Exclusions = Exclusions()


class TokenChoice(Message, frozen=True):
    """A token of the vocabulary, by its ID or by its text after the prompt; the other is None."""

    token_id: int | None = None
    text: str | None = None


PASSES_OF_A_GRADIENT = 3
"""Forward passes that one with gradients takes as long as: forward, and twice that backward."""


class AttributeNeurons(Task, frozen=True):
    """How much each neuron favors a token at a prompt's end. Result: AttributionResult."""

    language_model: LanguageModelSource
    sae: SaeSource
    prompt: str
    chat: str | None
    """What the chat template has made of the prompt; None where it is taken as it is."""
    target: TokenChoice | None
    """None is the model's own most probable token."""
    contrast: TokenChoice | None
    """A token to be less probable than the target; None asks for the target's log-probability alone."""
    first: int
    ablate: int
    """How many of the neurons to ablate, strongest first."""
    max_tokens: int
    """Of the prompt."""
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""
    exclusions: Exclusions = Exclusions()
    """Tokens whose latents stay as they are and have no effect of their own."""


class Generate(Task, frozen=True):
    """Generate text. Events: GenerationStarted, TokenGenerated, OutputFinished. Result: GenerateResult."""

    language_model: LanguageModelSource
    sae: SaeSource | None
    prompts: list[str]
    chats: list[str] | None
    """What the chat template has made of the prompts; None where they are taken as they are."""
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
    made_with: MadeWith | None = None
    """The language model that the SAE was made with; None where nothing is to be compared."""
    exclusions: Exclusions = Exclusions()
    """Tokens that are neither edited nor counted for neurons."""
    watch_neurons: list[int] = []
    """Neurons whose activations are reported at every token."""


class Download(Task, frozen=True):
    """Base of tasks of the lane downloads, whose workers do nothing else."""


class DownloadLanguageModel(Download, frozen=True):
    """Get a repository's files into the Hub's cache. Events: Stage, in bytes. Result: Done."""

    language_model: LanguageModelSource
    patience_seconds: float
    """How long nothing may come."""


class DownloadTexts(Download, frozen=True):
    """Get texts from the Hub and keep them as a dataset. Events: Stage, in rows. Result: Done."""

    dataset: HubDataset
    directory: str
    """Arrow dataset with the column text, to be made."""
    wanted: int | None
    """How many of the first texts; None is all."""
    limit: int
    """How many there may be."""
    patience_seconds: float
    """How long nothing may come."""


class DownloadSae(Download, frozen=True):
    """Get an SAE's files from the Hub. Events: Stage, in bytes. Result: Done.

    They lie in a directory in ``directory`` that is named for the commit; DOWNLOADED_FILE tells which.
    """

    source: HubSae
    directory: str
    """In the SAE's own, which goes with it."""
    n_inputs: int | None
    """The layer's width, where it is known: weights for no layer of that width are not got."""
    max_latents: int
    min_free_bytes: int
    """Bytes of the disk that are left free."""
    artifact_dir: str
    max_artifact_bytes: int | None
    """How much it may hold; None without a limit."""
    patience_seconds: float
    """How long nothing may come."""
