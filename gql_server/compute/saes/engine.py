"""What differs from one SAE class to another: the methods that the server asks of a class's engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gql_server.compute.saes.input_normalization import normalized, restored, scaled
from gql_server.compute.saes.selection import strongest
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern, chunks
from gql_server.compute.saes.weights import SaeWeights
from gql_server.formats.input_normalizations import InputNormalization

_SPARSE = 16
"""Decode sparsely if at most one latent in 16 is not zero; a dense product is faster otherwise."""


@dataclass(frozen=True)
class ForwardOutput:
    """What a training step's forward pass gave for x [n, n_inputs]; with gradients unless said otherwise."""

    x_hat: Tensor
    """[n, n_inputs]."""
    dictionary: Tensor
    """[n_latents, n_inputs]."""
    mean_latent: Tensor
    """The mean over all n * n_latents of what l1Lambda keeps small: Engine.penalized(), latents' sizes."""
    active_count: Tensor
    """How many latents are not 0; without gradients."""
    fired: Tensor
    """Which neurons have such a latent: bool [n_latents], without gradients."""
    x: Tensor
    """[n, n_inputs]; what the pass was of."""
    pre_activations: Callable[[Tensor], Tensor]
    """Gives some neurons' pre-activations [n, n_neurons]."""
    prefixes: Sequence[Tensor] = ()
    """Reconstructions [n, n_inputs] by the first neurons alone, for each of the engine's group_bounds."""
    candidates: SparseLatents | None = None
    """Pre-activations where latents may be other than 0; None for an engine that is no Engine."""


class Engine(ABC):
    """z = f(W_e (x - center) + b_e), x_hat = z D + b_d, where f gives few latents other than 0.

    ``encoder_weight`` [n_latents, n_inputs], ``encoder_bias`` [n_latents], ``decoder_bias`` [n_inputs] or
    None; ``k`` is the number of active latents per token that the class aims at, None where it has no aim.
    A transcoder's D and b_d are [.., n_outputs]; what its ``skip_weight`` [n_outputs, n_inputs] makes of x is
    part of what it reconstructs, but not of what decoding latents gives.

    With an ``input_normalization`` x is normalized token by token before, and x_hat restored by that token's
    own numbers: so whatever decodes is told which activations latents are of.
    """

    encoder_weight: Tensor
    encoder_bias: Tensor
    decoder_bias: Tensor | None
    skip_weight: Tensor | None
    k: int | None
    input_normalization: InputNormalization = "NONE"
    group_bounds: Sequence[int] = ()
    """In training, how many of the first neurons have to reconstruct by themselves as well; without all."""

    # --------------------------------------------------------------------------- encoding and decoding

    @property
    def center(self) -> Tensor | None:
        """What the encoder subtracts, [n_inputs]; None where it subtracts nothing."""
        return None

    @abstractmethod
    def get_dictionary(self) -> Tensor:
        """Return the decoder's rows [n_latents, n_inputs]."""

    @abstractmethod
    def pre_activations(self, x: Tensor) -> Tensor:
        """Return what the activation function gets, [n, n_latents], for x [n, n_inputs] as it is."""

    def normalized(self, x: Tensor) -> Tensor:
        """Return what the encoder gets of activations x [n, n_inputs]."""
        return normalized(self.input_normalization, x)

    def scaled(self, changes: Tensor, x: Tensor) -> Tensor:
        """Return what changes of latents, times the dictionary, [n, n_inputs], add to activations x."""
        return scaled(self.input_normalization, changes, x)

    def restored(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return the reconstruction of x [n, n_inputs] that what decode() gives stands for."""
        return restored(self.input_normalization, decoded, x)

    @torch.no_grad()
    def active(self, x: Tensor) -> SparseLatents:
        """Return where latents of x [n, n_inputs] may be other than 0, and the pre-activations there."""
        parts = [self.choose(self.pre_activations(rows)) for rows in chunks(x, len(self.encoder_bias))]
        return SparseLatents.joined(parts)

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return where latents may be other than 0 for pre-activations [n, n_latents], token by token.

        The k largest of each token, where fewer than k are positive also some that are not; without k all
        positive ones.
        """
        if self.k is None:
            return SparseLatents.above(pre_activations, 0.0)
        values, neurons = strongest(pre_activations, self.k)
        return SparseLatents.of_each(values, neurons, pre_activations.shape[1])

    def activate_at(self, pre_activations: Tensor, pattern: SparsityPattern) -> Tensor:
        """Return the latents [n_places] for the pre-activations at the places that active() gave."""
        return torch.relu(pre_activations)

    def penalized(self, pre_activations: Tensor, latents: Tensor) -> Tensor:
        """Return what l1Lambda keeps small of pre-activations and latents of one shape, in that shape."""
        return latents.abs()

    def decode_sparse(self, sparse: SparseLatents, x: Tensor) -> Tensor:
        """Return the reconstruction of x [n_rows, n_inputs], by the dictionary's few rows that fire."""
        dictionary = self.get_dictionary()
        if len(sparse.values) * _SPARSE > sparse.pattern.n_rows * sparse.pattern.n_latents:
            reconstruction = sparse.dense() @ dictionary
        else:
            reconstruction = sparse.pattern.times(sparse.values, dictionary)
        if self.decoder_bias is not None:
            reconstruction = reconstruction + self.decoder_bias
        return self.restored(reconstruction, x)

    # ---------------------------------------------------------------------------------------- training

    @abstractmethod
    def start(self, rows: Tensor) -> None:
        """Set up an untrained engine by some rows [n, n_inputs] of what it will be trained on."""

    def penalty(self, output: ForwardOutput, dead: Tensor, variance: float) -> Tensor | float:
        """Return what the loss of a forward pass grows by, beside mi_crow's own terms.

        ``dead`` [n_latents], bool, is true for neurons that have not fired for long; ``variance`` is the
        activations' per input, which the squared error is measured by.
        """
        return 0.0

    def fast_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are to have a higher learning rate than the others."""
        return []

    def after_step(self) -> None:  # noqa: B027 (most classes have nothing to do)
        """Restore after a step what the class keeps."""

    def settle(self, rows: Tensor) -> None:  # noqa: B027 (likewise)
        """Set what training only estimates, from rows [n, n_inputs] as those of start()."""

    @abstractmethod
    def fold_scale(self, scale: float) -> None:
        """Turn an engine trained on ``scale * x`` into one for x, whose latents are those over ``scale``."""

    # ------------------------------------------------------------------------------- import and export

    def weights(self) -> SaeWeights:
        """Return the weights of an engine in evaluation mode."""
        dictionary, bias = self.get_dictionary(), self.decoder_bias
        return SaeWeights(
            encoder_weight=plain(self.encoder_weight),
            encoder_bias=plain(self.encoder_bias),
            decoder_weight=plain(dictionary),
            decoder_bias=torch.zeros(dictionary.shape[1]) if bias is None else plain(bias),
            subtracts_bias=self.center is not None,
            k=self.k,
            skip_weight=None if self.skip_weight is None else plain(self.skip_weight),
            input_normalization=self.input_normalization,
        )


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 on the CPU, without gradients."""
    return tensor.detach().to("cpu", torch.float32).contiguous()
