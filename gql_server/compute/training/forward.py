"""A training step's forward pass: x to latents to reconstruction, and what the loss is made of.

By the active latents alone where the SAE has an Engine. Of the six products of a step over all latents
(encode, decode, and the gradients for both weights, latents and input) only the encoder's first one is dense
then.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, linear

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.engine import Engine, ForwardOutput
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern

from mi_crow.mechanistic.sae.sae import Sae


def forward_fn(sae: Sae) -> Callable[[Tensor], ForwardOutput]:
    """Return what takes a batch x [n, n_inputs] through the SAE's engine."""
    engine = engine_of(sae)
    if engine is None:
        return lambda x: dense_forward(sae.sae_engine, x)
    return lambda x: sparse_forward(engine, x)


def dense_forward(engine: nn.Module, x: Tensor) -> ForwardOutput:
    """Pass through any engine of overcomplete's interface."""
    z_pre, z, x_hat = engine(x)
    active = z.detach() != 0
    return ForwardOutput(
        x_hat=x_hat,
        dictionary=engine.get_dictionary(),  # type: ignore[operator]
        mean_latent=(engine.penalized(z_pre, z) if isinstance(engine, Engine) else z.abs()).mean(),
        active_count=active.sum(),
        fired=active.any(dim=0),
        x=x,
        pre_activations=lambda neurons: z_pre[:, neurons],
    )


def sparse_forward(engine: Engine, x: Tensor) -> ForwardOutput:
    """Pass through an Engine; the same numbers as dense_forward() to rounding."""
    dictionary = engine.get_dictionary()
    candidates, center = engine.active(x), engine.center
    pattern = candidates.pattern
    centered = x if center is None else x - center.detach()
    weight, bias = engine.encoder_weight, engine.encoder_bias
    pre_activations = _PreActivations.apply(candidates.values, pattern, centered, weight, bias, center)  # type: ignore[no-untyped-call]
    latents = engine.activate_at(pre_activations, pattern)
    x_hat = _Decoding.apply(latents, dictionary, pattern)  # type: ignore[no-untyped-call]
    prefixes = [
        _Decoding.apply(latents * (pattern.neurons < bound), dictionary, pattern)  # type: ignore[no-untyped-call]
        for bound in engine.group_bounds
    ]
    if engine.decoder_bias is not None:
        x_hat = x_hat + engine.decoder_bias
        prefixes = [prefix + engine.decoder_bias for prefix in prefixes]
    active = latents.detach() != 0

    def some_pre_activations(neurons: Tensor) -> Tensor:
        return linear(x if center is None else x - center, some_rows(weight, neurons), bias[neurons])

    return ForwardOutput(
        x_hat=x_hat,
        dictionary=dictionary,
        mean_latent=engine.penalized(pre_activations, latents).sum() / (len(x) * pattern.n_latents),
        active_count=active.sum(),
        fired=pattern.fired(active),
        x=x,
        pre_activations=some_pre_activations,
        prefixes=prefixes,
        candidates=SparseLatents(pre_activations, pattern),
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
        centered: Tensor,
        weight: Tensor,
        bias: Tensor,
        center: Tensor | None,
    ) -> Tensor:
        ctx.pattern, ctx.has_center = pattern, center is not None
        ctx.save_for_backward(centered, weight)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        centered, weight = ctx.saved_tensors
        for_bias = ctx.pattern.sums(gradient)
        for_center = -(for_bias @ weight) if ctx.has_center else None
        return None, None, None, ctx.pattern.transposed_times(gradient, centered), for_bias, for_center


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
