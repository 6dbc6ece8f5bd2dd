"""A training step's way through an engine: x to latents to reconstruction, and what the loss is made of.

By the active latents alone where the engine is known. Of the six products of a step over all latents (encode,
decode, and the gradients for both weights, latents and input) only the encoder's first one is dense then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, linear

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.linear_engine import LinearEngine, has_linear_engine
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern

from mi_crow.mechanistic.sae.sae import Sae


@dataclass(frozen=True)
class ForwardOutput:
    """What a step's forward pass gave for x [n, n_inputs]; tensors have gradients unless said otherwise."""

    x_hat: Tensor
    """[n, n_inputs]."""
    dictionary: Tensor
    """[n_latents, n_inputs]."""
    mean_latent: Tensor
    """The mean absolute latent, over all n * n_latents."""
    active_count: Tensor
    """How many latents are not 0; without gradients."""
    fired: Tensor
    """Which neurons have such a latent: bool [n_latents], without gradients."""
    pre_activations: Callable[[Tensor], Tensor]
    """Gives some neurons' pre-activations [n, n_neurons]."""
    places: SparseLatents | None = None
    """Pre-activations where latents may be other than 0; None for an engine that is not known."""


def forward_fn(sae: Sae) -> Callable[[Tensor], ForwardOutput]:
    """Return what takes a batch x [n, n_inputs] through the SAE's engine."""
    engine = sae.sae_engine
    if isinstance(engine, AffineEngine):
        return lambda x: sparse_forward(engine, x)
    if has_linear_engine(sae):
        view = LinearEngine(sae)
        return lambda x: sparse_forward(view, x)
    return lambda x: dense_forward(engine, x)


def dense_forward(engine: nn.Module, x: Tensor) -> ForwardOutput:
    """Pass through any engine of overcomplete's interface."""
    z_pre, z, x_hat = engine(x)
    active = z.detach() != 0
    return ForwardOutput(
        x_hat=x_hat,
        dictionary=engine.get_dictionary(),  # type: ignore[operator]
        mean_latent=z.abs().mean(),
        active_count=active.sum(),
        fired=active.any(dim=0),
        pre_activations=lambda neurons: z_pre[:, neurons],
    )


def sparse_forward(engine: AffineEngine | LinearEngine, x: Tensor) -> ForwardOutput:
    """Pass through an engine that is known; the same numbers to rounding."""
    dictionary = engine.get_dictionary()
    candidates, centre = engine.active(x), engine.centre
    pattern = candidates.pattern
    centred = x if centre is None else x - centre.detach()
    weight, bias = engine.encoder_weight, engine.encoder_bias
    pre_activations = _PreActivations.apply(candidates.values, pattern, centred, weight, bias, centre)  # type: ignore[no-untyped-call]
    latents = engine.activate_at(pre_activations, pattern)
    x_hat = _Decoding.apply(latents, dictionary, pattern)  # type: ignore[no-untyped-call]
    if engine.decoder_bias is not None:
        x_hat = x_hat + engine.decoder_bias
    active = latents.detach() != 0

    def some_pre_activations(neurons: Tensor) -> Tensor:
        return linear(x if centre is None else x - centre, some_rows(weight, neurons), bias[neurons])

    return ForwardOutput(
        x_hat=x_hat,
        dictionary=dictionary,
        mean_latent=latents.abs().sum() / (len(x) * pattern.n_latents),
        active_count=active.sum(),
        fired=pattern.fired(active),
        pre_activations=some_pre_activations,
        places=SparseLatents(pre_activations, pattern),
    )


def some_rows(matrix: Tensor, indices: Tensor) -> Tensor:
    """Return some of a matrix's rows, all different; a parameter's gradient gets no zeros for the others."""
    return embedding(indices, matrix, sparse=matrix.is_leaf)


class _PreActivations(torch.autograd.Function):
    """W (x - c) + b at some places, where it is known already; the gradients for W, b and c.

    With g the gradient at those places, a sparse matrix [n_tokens, n_latents]: gᵀ (x - c), its sums over
    tokens, and those times -W.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        pattern: SparsityPattern,
        centred: Tensor,
        weight: Tensor,
        bias: Tensor,
        centre: Tensor | None,
    ) -> Tensor:
        ctx.pattern, ctx.has_centre = pattern, centre is not None
        ctx.save_for_backward(centred, weight)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        centred, weight = ctx.saved_tensors
        for_bias = ctx.pattern.sums(gradient)
        for_centre = -(for_bias @ weight) if ctx.has_centre else None
        return None, None, None, ctx.pattern.transposed_times(gradient, centred), for_bias, for_centre


class _Decoding(torch.autograd.Function):
    """Sparse latents times the dictionary: [n_tokens, n_inputs]."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, dictionary: Tensor, pattern: SparsityPattern) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(latents, dictionary)
        return pattern.times(latents, dictionary)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        latents, dictionary = ctx.saved_tensors
        pattern: SparsityPattern = ctx.pattern
        return pattern.products(gradient, dictionary), pattern.transposed_times(latents, gradient), None
