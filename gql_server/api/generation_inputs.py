"""What a generation is asked for."""

from enum import StrEnum

import strawberry

from gql_server.api.common import describe_enum, input_type, one_of_input_type
from gql_server.api.concept_configs import ConceptEditInput
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.services.requests import GenerateRequest, SteeringRequest


class SteeringMode(StrEnum):
    """How edits reach the layer's output."""

    ERROR_PRESERVING = "ERROR_PRESERVING"
    RECONSTRUCTION = "RECONSTRUCTION"


describe_enum(
    SteeringMode,
    "How edits reach the layer's output.",
    {
        "ERROR_PRESERVING": (
            "Adds to the layer's output what the edits change in the reconstruction; with no effective edit"
            " the model is untouched."
        ),
        "RECONSTRUCTION": (
            "Puts the edited reconstruction in the place of the layer's output, as mi_crow's own hook does."
        ),
    },
)


@one_of_input_type
class SteeringSourceInput:
    """The edits to steer by, saved or given here."""

    concept_config_id: strawberry.ID | None = strawberry.field(description="A saved config.")
    edits: list[ConceptEditInput] | None = strawberry.field(description="The edits themselves.")


@input_type
class SteeringInput:
    """How to steer."""

    source: SteeringSourceInput = strawberry.field(description="The edits.")
    mode: SteeringMode = strawberry.field(
        default=SteeringMode.ERROR_PRESERVING, description="How they reach the layer's output."
    )

    def request(self) -> SteeringRequest:
        """Return what the service is asked for."""
        edits = self.source.edits
        return SteeringRequest(
            concept_config_id=self.source.concept_config_id,
            edits=None if edits is None else [edit.request() for edit in edits],
            mode=self.mode.value,
        )


@input_type
class GenerateInput:
    """Text to generate."""

    language_model_id: strawberry.ID | None = strawberry.field(
        description="May be left out where saeId is given."
    )
    sae_id: strawberry.ID | None = strawberry.field(
        description="Report this SAE's neurons, and steer through it."
    )
    prompts: list[str] = strawberry.field(description="Texts to go on from.")
    chat: bool = strawberry.field(
        default=False,
        description="Put each prompt through the tokenizer's chat template as a user's message.",
    )
    max_new_tokens: int = strawberry.field(default=32, description="At most this many tokens per prompt.")
    temperature: float = strawberry.field(default=0.0, description="0 is greedy.")
    top_p: float | None = strawberry.field(
        description="Draw from the most probable tokens that together have this probability."
    )
    top_k: int | None = strawberry.field(description="Draw from this many of the most probable tokens.")
    repetition_penalty: float | None = strawberry.field(
        description="Above 1 makes tokens that were there already less probable."
    )
    stop: list[str] | None = strawberry.field(description="Texts that end an output when they come up.")
    seed: int | None = strawberry.field(description="Of the random draws; the server draws one if left out.")
    steering: SteeringInput | None = strawberry.field(description="How to steer; not at all if left out.")
    compare_to_baseline: bool = strawberry.field(
        default=False,
        description="Also generate without steering, from the same seed. InvalidInput without steering.",
    )
    top_log_probabilities: int = strawberry.field(
        default=0, description="How many alternatives to give per token, at most 20."
    )
    top_neurons: int = strawberry.field(default=5, description="Neurons to report per output and per token.")
    exclude_first_positions: int | None = strawberry.field(
        description=f"Neither edit nor count neurons there. {EXCLUDE_FIRST_POSITIONS}"
    )
    exclude_outliers: float | None = strawberry.field(
        description=f"Neither edit nor count neurons there. {EXCLUDE_OUTLIERS}"
    )
    watch_neurons: list[int] | None = strawberry.field(
        description="Also report these neurons' activations at every token; 20 at most, each once."
    )
    write_top_texts: bool = strawberry.field(
        default=False,
        description=(
            "Write a top-texts JSON file for these prompts. Of an SAE's requests the last 100 are kept."
        ),
    )

    def request(self) -> GenerateRequest:
        """Return what the service is asked for."""
        return GenerateRequest(
            language_model_id=self.language_model_id,
            sae_id=self.sae_id,
            prompts=self.prompts,
            chat=self.chat,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            stop=self.stop,
            seed=self.seed,
            steering=self.steering.request() if self.steering else None,
            compare_to_baseline=self.compare_to_baseline,
            top_log_probabilities=self.top_log_probabilities,
            top_neurons=self.top_neurons,
            write_top_texts=self.write_top_texts,
            exclude_first_positions=self.exclude_first_positions,
            exclude_outliers=self.exclude_outliers,
            watch_neurons=self.watch_neurons,
        )
