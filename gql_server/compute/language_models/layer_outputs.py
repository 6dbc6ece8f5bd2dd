"""The vectors, one per token, in what a layer puts out."""

from torch import Tensor


def vectors_of(output: Tensor, n_texts: int, n_positions: int) -> Tensor | None:
    """Return a view [n_texts, n_positions, width] of what a layer puts out; None where it is none.

    Some modules, such as OPT's linear layers and mixtures of experts, have the tokens of all texts in one
    dimension: [n_texts * n_positions, width].
    """
    output = active_stream(output)
    if not output.is_floating_point():
        return None
    if output.ndim == 3 and output.shape[:2] == (n_texts, n_positions):
        return output
    if output.ndim == 2 and len(output) == n_texts * n_positions and output.is_contiguous():
        return output.view(n_texts, n_positions, output.shape[1])
    return None


def active_stream(output: Tensor) -> Tensor:
    """Return the first of residual streams that are stacked, as Gemma 3n's are; else the output as it is.

    Its other streams are predictions of this one, which alone goes through attention and MLP.
    """
    return output[0] if output.ndim == 4 else output


def with_active_stream(output: Tensor, vectors: Tensor) -> Tensor:
    """Return a layer's output, of the same shape, with other vectors in the active stream's place."""
    if output.ndim != 4:
        return vectors.reshape(output.shape)
    changed = output.clone()
    changed[0] = vectors
    return changed
