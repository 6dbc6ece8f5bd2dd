"""What an index tells of decoder directions: which tokens they raise and lower, and which are alike."""

import torch
from torch import Tensor

from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.indexing.decoder_map import decoder_map
from gql_server.compute.indexing.direct_effects import direct_effects
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.pairing import paired
from gql_server.compute.language_models.unembedding import NoUnembedding, find_unembedding
from gql_server.compute.saes.decoder_directions import decoder_directions, similar_neurons
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.compute.worker.stages import stage
from gql_server.protocol.events import Log
from gql_server.protocol.tasks import IndexNeurons

from mi_crow.mechanistic.sae.sae import Sae


def direction_tensors(
    task: IndexNeurons, context: TaskContext, sae: Sae, language_models: LanguageModels
) -> tuple[dict[str, Tensor], LanguageModelProvenance | None]:
    """Return the index's tensors of decoder directions; [n_latents, at most 50] each, -1 where there is none.

    And the language model that the effects are of, None where there are none.

    The language model is loaded for its unembedding. Where it cannot be, or there is no way from the layer to
    the logits that can be told, a log line says so, and the effects are left out.
    """
    directions = decoder_directions(sae, stage(context, "reading decoder directions"))
    tensors = similar_neurons(directions, stage(context, "computing similar neurons"))
    tensors |= decoder_map(directions, tensors, stage(context, "mapping decoder directions"))
    try:
        effects, origin = _effects(task, context, directions, language_models)
        return tensors | effects, origin
    except (NoUnembedding, TaskError, MemoryError, torch.OutOfMemoryError) as error:
        reason = str(error) or "There was not enough memory for the language model."
        context.emit(Log(f"Promoted and suppressed tokens are left out. {reason}"))
        return tensors, None


def _effects(
    task: IndexNeurons, context: TaskContext, directions: Tensor, language_models: LanguageModels
) -> tuple[dict[str, Tensor], LanguageModelProvenance]:
    if task.language_model is None:
        raise NoUnembedding("The index was asked for without its language model.")
    stage(context, "loading the language model")(0, 1)
    tell = stage(context, "computing promoted tokens")
    with paired(language_models, task.language_model, task.made_with) as (lm, origin):
        stage(context, "looking for the unembedding")(0, 1)
        unembedding = find_unembedding(lm, task.sae.writes)
        return direct_effects(directions, unembedding, tell), origin
