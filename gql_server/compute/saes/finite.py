"""Encoding and decoding with an SAE, refusing what is not finite: no figures are made of that."""

from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.context import TaskError

from mi_crow.mechanistic.sae.sae import Sae

_OF_THE_MODEL = (
    "The language model's activations are not finite on these texts; take other texts, another layer, or a "
    "model in FLOAT32 or BFLOAT16."
)


def encode(sae: Sae, activations: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the latents [n, n_latents] of activations [n, n_inputs].

    ``counted`` [n] says on which rows they matter, None that they do on all. TaskError (CONFLICT) where they
    are not finite there.
    """
    latents: Tensor = sae.encode(activations)
    bad = _bad_rows(latents, counted)
    if bad is None:
        return latents
    if not all_finite(activations[bad]):
        raise TaskError(_OF_THE_MODEL, "CONFLICT")
    raise _of_the_sae(sae, "neurons' activations")


def decode(sae: Sae, latents: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the reconstructions [n, n_inputs] of latents [n, n_latents]; ``counted`` and errors as above."""
    reconstructions: Tensor = sae.decode(latents)
    if _bad_rows(reconstructions, counted) is None:
        return reconstructions
    raise _of_the_sae(sae, "reconstructions")


def all_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite."""
    # A sum takes no memory, and shows every such value; but it may overflow by itself.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _bad_rows(values: Tensor, counted: Tensor | None) -> Tensor | None:
    """Return on which rows [n] that count a value is not finite; None where there is no such row."""
    if all_finite(values):
        return None
    bad = ~values.isfinite().all(dim=1)
    if counted is not None:
        bad &= counted.to(bad.device)
    return bad if bool(bad.any()) else None


def _of_the_sae(sae: Sae, what: str) -> TaskError:
    reason = (
        f"SAE {sae.id} gives {what} that are not finite on these texts: its weights are too large; "
        "train it again, or import it with smaller ones."
    )
    return TaskError(reason, "CONFLICT")
