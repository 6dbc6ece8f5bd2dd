"""Neuron activations: chosen neurons of an SAE on every token of prompts."""

from collections.abc import Sequence

from gql_server.errors import InvalidInput
from gql_server.protocol.results import NeuronActivationsResult
from gql_server.protocol.tasks import ReadNeuronActivations
from gql_server.services import chats, exclusions, inspection, interactive
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.concepts import known_latent_count
from models import Sae

MAX_NEURONS = 64
MAX_VALUES = 131_072
"""All neurons on 2,048 tokens: 2.6 MB of JSON where every neuron fires everywhere."""


async def read(
    server: AppContext,
    sae_id: str,
    prompts: Sequence[str],
    neuron_indices: Sequence[int],
    chat: bool = False,
    exclude_first_positions: int | None = None,
    exclude_outliers: float | None = None,
) -> tuple[Sae, NeuronActivationsResult]:
    """Run prompts through the model and the SAE.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    checks = Checks()
    interactive.check_prompts(checks, server.settings, prompts)
    count, message = len(neuron_indices), f"Give 1 to {MAX_NEURONS} neurons, not {len(neuron_indices):,}."
    checks.require(1 <= count <= MAX_NEURONS, "neuronIndices", message)
    exclusions.check(checks, exclude_first_positions, exclude_outliers)
    checks.done()
    about = await inspection.subject(server, sae_id, exclude_first_positions, exclude_outliers)
    _check_neurons(about.sae, neuron_indices)
    rendered = await chats.rendered(server, about.language_model, prompts) if chat else None
    counts = await interactive.check_prompt_tokens(server, about.language_model, prompts, chats=rendered)
    interactive.check_request_tokens(server.settings, sum(counts), 0)
    if sum(counts) * count > MAX_VALUES:
        raise InvalidInput.at(
            "neuronIndices",
            f"{sum(counts):,} tokens x {count} neurons are more than {MAX_VALUES:,}; ask for fewer neurons, "
            "or for fewer or shorter prompts.",
        )
    task = ReadNeuronActivations(
        language_model=about.language_model_source(server),
        sae=about.sae_source(server),
        prompts=list(prompts),
        chats=rendered,
        neuron_indices=list(neuron_indices),
        max_tokens=MAX_VALUES // count,
        made_with=about.made_with,
        exclusions=about.exclusions,
    )
    result = await inspection.run(server, about, "neuron_activations", task, len(prompts), counts)
    assert isinstance(result, NeuronActivationsResult)
    return about.sae, result


def _check_neurons(sae: Sae, neuron_indices: Sequence[int]) -> None:
    checks, seen = Checks(), set[int]()
    for place, neuron in enumerate(neuron_indices):
        checks.whole_number(["neuronIndices", place], neuron, 0, known_latent_count(sae) - 1)
        checks.require(neuron not in seen, ["neuronIndices", place], f"Neuron {neuron} is there twice.")
        seen.add(neuron)
    checks.done()
