"""Encoding and decoding with an SAE; an error where values are not finite."""

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskError

from mi_crow.mechanistic.sae.sae import Sae

_OF_THE_MODEL = (
    "The language model's activations are not finite on these texts. Where it computes in FLOAT16, add it "
    "again with dtype BFLOAT16 or FLOAT32 (addLanguageModel); else take other texts or an earlier layer."
)


def encode(sae: Sae, activations: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """Return the latents [n, n_latents] of activations [n, n_inputs].

    ``token_mask`` [n] says on which rows they matter, None that they do on all. TaskError (CONFLICT) where
    they are not finite there.
    """
    latents: Tensor = sae.encode(activations)
    bad = _bad_rows(latents, token_mask)
    if bad is None:
        return latents
    if not all_finite(activations[bad]):
        raise TaskError(_OF_THE_MODEL, "CONFLICT")
    raise _of_the_sae(sae, "neurons' activations")


def sparse_latents_of(sae: Sae, activations: Tensor, token_mask: Tensor | None = None) -> SparseLatents:
    """Return the latents of activations [n, n_inputs] that are not 0; ``token_mask`` and errors as above."""
    return checked(sae, encoded(sae, activations), activations, token_mask)


def checked(
    sae: Sae, sparse: SparseLatents, activations: Tensor, token_mask: Tensor | None = None
) -> SparseLatents:
    """Return what ``encoded`` has given for activations [n, n_inputs]; ``token_mask`` and errors as above."""
    if not all_finite(sparse.values):
        # Says so, where it matters.
        encode(sae, activations, token_mask)
    return sparse


def encoded(sae: Sae, activations: Tensor) -> SparseLatents:
    """Encode, without passes over all latents where the SAE has an Engine; they may be not finite."""
    engine = engine_of(sae)
    if engine is None:
        return SparseLatents.of(sae.encode(activations).float())
    with torch.no_grad():
        candidates = engine.active(activations)
        latents = engine.activate_at(candidates.values, candidates.pattern)
    return SparseLatents(latents.float(), candidates.pattern).only(latents != 0)


def decode(sae: Sae, latents: Tensor, token_mask: Tensor | None = None, *, of: Tensor) -> Tensor:
    """Return the reconstructions of activations ``of`` [n, n_inputs] from their latents [n, n_latents].

    The rest as above. An SAE that normalizes its inputs restores each by that token's own numbers.
    """
    reconstructions: Tensor = sae.decode(latents)
    if (engine := engine_of(sae)) is not None:
        reconstructions = engine.restored(reconstructions, of)
    if _bad_rows(reconstructions, token_mask) is None:
        return reconstructions
    raise _of_the_sae(sae, "reconstructions")


def n_outputs_of(sae: Sae) -> int:
    """Return how many numbers per token it writes: as many as it reads, unless it is a transcoder."""
    engine = engine_of(sae)
    n_inputs: int = sae.context.n_inputs
    return n_inputs if engine is None or engine.decoder_bias is None else len(engine.decoder_bias)


def skipped(sae: Sae, activations: Tensor) -> Tensor | None:
    """Return what a transcoder's skip connection makes of activations [n, n_inputs]; None without one.

    [n, n_outputs], which a reconstruction has beside what latents are decoded to.
    """
    # Engines of other packages may lack the attribute.
    weight: Tensor | None = getattr(engine_of(sae), "skip_weight", None)
    return None if weight is None else nn.functional.linear(activations, weight.detach())


def all_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite."""
    # A sum takes no memory, and shows every such value; but it may overflow by itself.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _bad_rows(values: Tensor, token_mask: Tensor | None) -> Tensor | None:
    """Return on which rows [n] that count a value is not finite; None where there is no such row."""
    if all_finite(values):
        return None
    bad = ~values.isfinite().all(dim=1)
    if token_mask is not None:
        bad &= token_mask.to(bad.device)
    return bad if bool(bad.any()) else None


def _of_the_sae(sae: Sae, what: str) -> TaskError:
    reason = (
        f"SAE {sae.id} gives {what} that are not finite on these texts: its weights are too large; "
        "train it again, or import it with smaller ones."
    )
    return TaskError(reason, "CONFLICT")
