"""An SAE of somebody else as its files describe it: which class it becomes, and from which tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gql_server.formats.input_normalizations import InputNormalization
from gql_server.formats.sae_sources.places import is_before_gain
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.tensor_files import FLOAT_BYTES, TensorFile, TensorHeader


@dataclass(frozen=True)
class Part:
    """One tensor of an SAE's weights, and what it takes to make it that."""

    tensor: TensorHeader
    is_transposed: bool = False
    """Whether a matrix is stored as [n_inputs, n_latents]; here it is [n_latents, n_inputs]."""
    factor: float = 1.0
    """What it is multiplied by."""


@dataclass(frozen=True)
class UnitRows:
    """The decoder's rows become unit; their lengths go into the encoder and its bias."""

    option: str
    """What a configuration calls that."""
    library: str
    dtype: str
    """In which the library computes the lengths."""

    @property
    def note(self) -> str:
        """A sentence that says so."""
        return f"The lengths of the decoder's rows went into the encoder ({self.option})."


@dataclass(frozen=True)
class Threshold:
    """What a latent must be above: a vector, a scalar, or a tensor of either's logarithms."""

    part: Part | None = None
    value: float = 0.0
    """For all latents; where there is no tensor."""
    is_logarithm: bool = False
    is_of_unit_rows: bool = False
    """Whether it is compared with latents times the lengths of their decoder rows, by which it is divided."""
    has_relu: bool = True
    """Whether only what is above 0 passes as well; if not, one below 0 would let negative ones pass."""


@dataclass(frozen=True)
class MagnitudeParts:
    """How large a latent is, where the encoder is its gate: compute/saes/weights.py has the formula."""

    log_scale: Part
    bias: Part


@dataclass(frozen=True)
class WeightsPlan:
    """Which tensors of a file become the weights of an SAE of a class here.

    z = f(W_e (x - b_d) + b_e)      x_hat = z W_d + b_d

    A transcoder's x_hat is of another place, and may have ``skip`` times x beside.
    """

    file: str
    encoder_weight: Part
    encoder_bias: Part
    decoder_weight: Part
    decoder_bias: Part | None
    """None for zeros."""
    subtracts_bias: bool
    threshold: Threshold | None = None
    magnitudes: MagnitudeParts | None = None
    unit_rows: UnitRows | None = None
    centers_inputs: bool = False
    """Whether each token's mean is subtracted from its input first; goes into the encoder."""
    ones: TensorHeader | None = None
    """A vector that may only be of ones, one for each latent."""
    skip: Part | None = None
    """[n_outputs, n_inputs]; transposed where it is stored the other way round."""


@dataclass(frozen=True)
class SaeDescription:
    """An SAE that can be taken over, as far as it is told without reading its weights.

    An SAE reads one place of a language model and writes one: the same one unless it is a transcoder.
    """

    format: str
    """A key of registry.FORMATS."""
    architecture: str
    """As the source names it."""
    sae_class: str
    n_inputs: int
    n_latents: int
    k: int | None
    files: Sequence[str]
    """Names of those that are read, the configuration first."""
    weights: WeightsPlan | None
    """None for checkpoints of classes here, which these read."""
    input_normalization: InputNormalization = "NONE"
    """What is done to each token before it is encoded, and undone after it is decoded."""
    place: str | None = None
    """Where its inputs come from, as the source names it: in TransformerLens' words or Hugging Face's."""
    prepends_bos: bool | None = None
    """Whether its texts began with a BOS; None where that is not said."""
    scaled_by: str | None = None
    """The option with which its inputs were multiplied by a factor that its files leave out, if any."""
    says_centered: bool = False
    """Whether its inputs were of a model whose written weights TransformerLens had centered, as they say."""
    computed_in: str | None = None
    """The dtype in which the source's library computes it, where that is a narrow one."""
    notes: Sequence[str] = ()
    """What was folded into the weights, and what else there is to know, in sentences."""
    notes_on_processing: Sequence[str] = ()
    """What there is to know as long as nothing is done about how its inputs were processed."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Plain values that the source says of itself."""
    is_transcoder: bool | None = False
    """Whether it writes another place than it reads; None where the source does not tell."""
    output_place: str | None = None
    """Where a transcoder writes, as the source names it."""
    n_outputs: int | None = None
    """How many numbers per token a transcoder writes; None for as many as it reads."""

    @property
    def reads_before_gain(self) -> bool:
        """Whether it is a transcoder of a norm's value before its gain, which can go into the encoder."""
        subtracts = self.weights is None or self.weights.subtracts_bias
        return bool(self.is_transcoder) and is_before_gain(self.place) and not subtracts

    def check_fits(self, width: int | None, max_latents: int, output_width: int | None = None) -> None:
        """Raise NotRepresentable where it is for other widths, or has more neurons than it may."""
        if self.is_transcoder and self.input_normalization != "NONE":
            raise NotRepresentable(
                "It is a transcoder that normalizes each token's input, by numbers that what it writes does"
                " not have."
            )
        n_outputs = self.n_outputs or self.n_inputs
        if output_width not in (None, n_outputs):
            raise NotRepresentable(
                f"The transcoder writes {n_outputs} numbers per token; the output layer's are {output_width}."
            )
        if width not in (None, self.n_inputs):
            raise NotRepresentable(
                f"The SAE is for activations of width {self.n_inputs}; the layer's are {width} wide."
            )
        if self.n_latents > max_latents:
            raise NotRepresentable(
                f"The SAE has {self.n_latents:,} neurons; this server takes {max_latents:,}."
            )
        if self.k is not None and self.k > self.n_latents:
            raise NotRepresentable(f"Its k is {self.k:,}, more than its {self.n_latents:,} neurons.")

    @property
    def most_bytes(self) -> int:
        """The most bytes that a file of its weights can have."""
        skip = 8 * (self.n_outputs or self.n_inputs) * self.n_inputs if self.is_transcoder else 0
        return most_bytes(max(self.n_inputs, self.n_outputs or 0), self.n_latents) + skip


def most_bytes(n_inputs: int, n_latents: int) -> int:
    """Return the most bytes that a file of weights can have: in double precision, with a little beside."""
    return 8 * (2 * n_inputs + 8) * n_latents + 64 * 1024 * 1024


def check_written(described: SaeDescription, output_layer: str | None) -> None:
    """Raise NotRepresentable where an SAE would write another layer than it reads, a transcoder the same."""
    if output_layer is not None and described.is_transcoder is False:
        raise NotRepresentable(
            "It is an SAE, which gives back the layer that it reads: leave the output layer out."
        )
    if output_layer is None and described.is_transcoder:
        raise NotRepresentable(
            f"It is a transcoder, which writes {shown(described.output_place)}: name the output layer,"
            " another one than the one that it reads."
        )


@dataclass(frozen=True)
class Sizes:
    """Sizes of an SAE, and which files say so."""

    n_inputs: int
    n_latents: int
    said_by: str = "its biases"
    n_outputs: int | None = None
    """Of a transcoder; None where it is n_inputs."""

    def matrix(
        self, file: TensorFile, name: str, *, by_input: bool = False, width: int | None = None
    ) -> Part:
        """Return a matrix; ``by_input`` where it is stored as [n_inputs, n_latents].

        ``width`` is in the place of n_inputs where it is given.
        """
        shape = [self.n_latents, width or self.n_inputs]
        return Part(file.weight(name, shape[::-1] if by_input else shape, self.said_by), by_input)

    def latents(self, file: TensorFile, name: str) -> Part:
        """Return a vector with a value for each latent."""
        return Part(file.weight(name, [self.n_latents], self.said_by))

    def inputs(self, file: TensorFile, name: str) -> Part:
        """Return a vector with a value for each input."""
        return Part(file.weight(name, [self.n_inputs], self.said_by))

    def skip(self, file: TensorFile, name: str, *, by_input: bool = False) -> Part:
        """Return a transcoder's skip connection; ``by_input`` where it is stored as [n_inputs, n_outputs]."""
        shape = [self.n_outputs or self.n_inputs, self.n_inputs]
        return Part(file.weight(name, shape[::-1] if by_input else shape, self.said_by), by_input)

    def plan(
        self,
        file: TensorFile,
        names: tuple[str, str, str, str],
        *,
        subtracts_bias: bool,
        encoder_by_input: bool = False,
        decoder_by_input: bool = False,
    ) -> WeightsPlan:
        """Return how four tensors become weights.

        Args:
            file: What they are in.
            names: Of the encoder's weight and bias, and the decoder's.
            subtracts_bias: Whether the decoder's bias is subtracted before the encoder.
            encoder_by_input: Whether its weight is stored as [n_inputs, n_latents].
            decoder_by_input: The same of the decoder's.
        """
        encoder, encoder_bias, decoder, decoder_bias = names
        return WeightsPlan(
            file=file.name,
            encoder_weight=self.matrix(file, encoder, by_input=encoder_by_input),
            encoder_bias=self.latents(file, encoder_bias),
            decoder_weight=self.matrix(file, decoder, by_input=decoder_by_input, width=self.n_outputs),
            decoder_bias=Part(file.weight(decoder_bias, [self.n_outputs or self.n_inputs], self.said_by)),
            subtracts_bias=subtracts_bias,
        )


def scaled(part: Part, factor: float) -> Part:
    """Return a part that is multiplied."""
    return replace(part, factor=part.factor * factor)


def narrow_dtype(plan: WeightsPlan) -> str | None:
    """Return the dtype in which weights are stored where that is a narrow one."""
    dtype = plan.encoder_weight.tensor.dtype
    return dtype if FLOAT_BYTES[dtype] < FLOAT_BYTES["float32"] else None


def metadata_of(architecture: str, plan: WeightsPlan, **known: Any) -> dict[str, Any]:
    """Return what is kept of what a source says of itself, without what it does not say."""
    said = {"architecture": architecture, "dtype": plan.encoder_weight.tensor.dtype, **known}
    return {name: value for name, value in said.items() if value is not None}
