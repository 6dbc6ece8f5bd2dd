"""What a worker tells of a task as it goes."""

from typing import Literal

from gql_server.protocol.base import Message


class Event(Message, frozen=True):
    """Base of all events; wire.py has every subclass decoded."""


class Progress(Event, frozen=True):
    """How far a task is; the supervisor decides which of these become events."""

    completed: int
    total: int | None
    rate_per_second: float | None = None
    stage: str | None = None


class Stage(Event, frozen=True):
    """What a task does beside the counted progress, and how far that is; coalesced like Progress."""

    name: str
    """Such as "computing similar neurons"."""
    completed: int
    total: int | None


class Log(Event, frozen=True):
    """One sentence for people."""

    message: str


class TrainingConfigChosen(Event, frozen=True):
    """A training's configuration with the defaults filled in."""

    epochs: int
    batch_size: int
    k: int | None
    learning_rate: float
    l1_lambda: float
    seed: int
    device: str
    exclude_first_positions: int = 0
    exclude_outliers: float | None = None
    median_norm: float | None = None
    """As Exclusions has it."""
    group_fractions: list[float] | None = None
    """Shares of the neurons in nested groups; None where there are none."""


class TrainingPointMessage(Event, frozen=True):
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


class TrainingResumed(Event, frozen=True):
    """The training goes on after this step; its points so far take the place of all that were sent before."""

    step: int
    points: list[TrainingPointMessage]


class PromptToken(Message, frozen=True):
    """A token of a prompt."""

    index: int
    token_id: int
    text: str
    special: bool
    label: str = ""
    """What to show of it, never empty: the text, or bytes where it is part of a character only."""


class NeuronActivationMessage(Message, frozen=True):
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
    top_neurons: list[NeuronActivationMessage]
    watched: list[float] = []
    """The task's watch_neurons at the same position."""


class GenerationStarted(Event, frozen=True):
    """A generation's prompts are about to go through the language model."""

    seed: int
    prompt_tokens: list[list[PromptToken]]


class TokenGenerated(Event, frozen=True):
    """A token as it is made."""

    prompt_index: int
    variant: Literal["BASELINE", "STEERED"]
    token: GeneratedToken


class OutputFinished(Event, frozen=True):
    """All of one prompt's output in one variant."""

    prompt_index: int
    prompt: str
    variant: Literal["BASELINE", "STEERED"]
    text: str
    tokens: list[GeneratedToken]
    finish_reason: Literal["LENGTH", "STOP", "END_OF_TEXT", "CANCELED"]
    top_neurons: list[NeuronActivationMessage]
    elapsed_milliseconds: float
    watched: list[list[float]] = []
    """The task's watch_neurons on each token of prompt and output, in order; 0 on special tokens."""
