"""Transcoders that read a norm's value before its gain, made to read what the norm puts out.

A norm gives y = g n + b for the normalized value n, which is no module's output. An encoder of n is one of y
where its columns are divided by g, and what b adds is taken off its bias; a skip connection likewise.
"""

from dataclasses import replace

import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.layers import why_not
from gql_server.compute.language_models.unembedding import gain_and_bias
from gql_server.compute.saes.weights import SaeWeights, check_finite
from gql_server.compute.worker.context import TaskError

from mi_crow.language_model.language_model import LanguageModel


def fold_gain(weights: SaeWeights, lm: LanguageModel, layer: str) -> SaeWeights:
    """Return weights for what a norm puts out, of ones for what it has before its gain; some change in place.

    TaskError where the layer is no norm, or its gain is 0 somewhere.
    """
    if reason := why_not(lm, layer):
        raise TaskError(reason, "CONFLICT")
    norm = lm.layers.name_to_layer[layer]
    found = gain_and_bias(norm, weights.n_inputs, next(iter(lm.model.parameters())).device)
    if found is None:
        raise TaskError(
            f"It reads a norm's value before its gain, and the layer {layer} is no norm: import it for the"
            " norm before the MLP.",
            "CONFLICT",
        )
    gain, bias = (tensor.detach().to("cpu", torch.float32) for tensor in found)
    if bool((gain == 0).any()):
        raise TaskError(f"The gain of {layer} is 0 somewhere, so its value before that is not known.")
    moved = bias / gain
    encoder_bias = weights.encoder_bias - weights.encoder_weight @ moved
    decoder_bias = weights.decoder_bias
    weights.encoder_weight.div_(gain)
    if weights.skip_weight is not None:
        decoder_bias = decoder_bias - weights.skip_weight @ moved
        weights.skip_weight.div_(gain)
        check_finite("W_skip", weights.skip_weight)
    check_finite("W_enc", weights.encoder_weight)
    return replace(weights, encoder_bias=encoder_bias, decoder_bias=decoder_bias)
