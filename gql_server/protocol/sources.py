"""What tasks are about: language models, SAEs, datasets, edits."""

from typing import Literal

from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.protocol.base import Message


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
    add_bos: bool | None = None
    """Whether a BOS is written before texts; None is as the tokenizer does."""
    token_counts: tuple[tuple[int, bool], ...] = ()
    """Tokens of which people have said whether they count."""
    roots: tuple[str, ...] = ()
    """Of a DIRECTORY or a GGUF: the directories under which its files have to lie when they are read."""


class MadeWith(Message, frozen=True):
    """The language model that an SAE or a run was made with: what a worker compares before it pairs them."""

    what: str
    """As a sentence begins: The SAE 'name'."""
    made_at: str
    language_model: LanguageModelProvenance
    accepted: list[str]
    """Fingerprints of the model that somebody has accepted in its place."""


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
    output_layer: str | None = None
    """Which layer a transcoder writes; None where that is the one that it reads."""

    @property
    def writes(self) -> str:
        """The layer that its reconstructions are of."""
        return self.output_layer or self.layer


class NeuronsSource(Message, frozen=True):
    """What is known of an SAE's neurons, and where it lies."""

    index_path: str
    """The neuron index's tensors."""
    top_texts_per_neuron: int
    dataset_dir: str | None
    """The texts of the run that was indexed; None where that has been deleted."""
    tokenizer_dir: str
    begin_token_ids: list[int] | None
    """What the run wrote before its texts."""
    max_length: int
    """Tokens at which its texts were cut."""
    names_path: str
    """Names of neurons, a NeuronName in each line, by their numbers."""
    source_name: str
    """What Neuronpedia would call the SAE: its layer's number, and a name."""


class NeuronName(Message, frozen=True):
    """A neuron's name."""

    neuron: int
    name: str
    score: float | None
    note: str | None
    source: str
    """MANUAL, GENERATED or IMPORTED."""


class HubDataset(Message, frozen=True):
    """Texts on the Hugging Face Hub."""

    repository: str
    config: str | None
    split: str
    text_field: str
    revision: str | None
    skip_bad_rows: bool = False


class HubSae(Message, frozen=True):
    """An SAE on the Hugging Face Hub."""

    repository: str
    path: str
    """Of a directory or a file in it; empty for all of it."""
    revision: str | None

    @property
    def place(self) -> str:
        """The repository and the path, which say what an SAE is in layouts without a configuration."""
        return f"{self.repository}/{self.path}" if self.path else self.repository


class Edit(Message, frozen=True):
    """latent * multiplier + bias on one neuron."""

    neuron_index: int
    multiplier: float
    bias: float
