"""The weights of an SAE that a plan describes, read tensor by tensor: at most 1.1 times their float32 size.

Whatever is folded into them is done in place, and row by row.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from gql_server.compute.formats.refusals import as_task_errors
from gql_server.compute.formats.stored_tensors import PIECE_BYTES, TYPES, read_into
from gql_server.compute.saes.weights import Magnitudes, SaeWeights, check_finite
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.stages import Tell
from gql_server.formats.sae_sources.description import (
    MagnitudeParts,
    Part,
    SaeDescription,
    Threshold,
    UnitRows,
    WeightsPlan,
)
from gql_server.formats.sae_sources.tensor_files import check_sums


def read_weights(description: SaeDescription, path: Path, tell: Tell) -> SaeWeights:
    """Read the weights of an SAE.

    Args:
        description: Says which tensors they are; its plan is not None.
        path: The file that the plan names; nobody else writes to it.
        tell: Called with the number of values of its matrices that are read, and with that of all.

    Raises:
        TaskError: It says what is wrong with them.
    """
    plan = description.weights
    assert plan is not None
    with path.open("rb") as file:
        if not plan.file.endswith(".safetensors"):
            with as_task_errors():
                check_sums(file, plan.file)
        return _Reader(description, plan, file, tell).weights()


class _Reader:
    def __init__(self, description: SaeDescription, plan: WeightsPlan, file: BinaryIO, tell: Tell) -> None:
        self._of, self._plan, self._file, self._tell = description, plan, file, tell
        matrices = filter(None, (plan.encoder_weight, plan.decoder_weight, plan.skip))
        self._n_values, self._n_read = sum(math.prod(part.tensor.shape) for part in matrices), 0

    def weights(self) -> SaeWeights:
        """Read them all, and fold into them what the plan says."""
        plan, n_latents, n_inputs = self._plan, self._of.n_latents, self._of.n_inputs
        n_outputs = self._of.n_outputs or n_inputs
        self._check_ones()
        encoder_weight = self._matrix(plan.encoder_weight, n_latents, n_inputs)
        encoder_bias = self._vector(plan.encoder_bias, n_latents)
        decoder_weight = self._matrix(plan.decoder_weight, n_latents, n_outputs)
        decoder_bias = (
            torch.zeros(n_outputs)
            if plan.decoder_bias is None
            else self._vector(plan.decoder_bias, n_outputs)
        )
        if plan.centers_inputs:
            fold_centering(encoder_weight, encoder_bias, decoder_bias if plan.subtracts_bias else None)
        threshold = None if plan.threshold is None else self._threshold(plan.threshold, decoder_weight)
        magnitudes = None if plan.magnitudes is None else self._magnitudes(plan.magnitudes)
        if plan.unit_rows is not None:
            fold_lengths(encoder_weight, encoder_bias, decoder_weight, plan.unit_rows)
        _check_folded(encoder_weight, encoder_bias, decoder_weight, decoder_bias)
        skip_weight = None if plan.skip is None else self._matrix(plan.skip, n_outputs, n_inputs)
        return SaeWeights(
            encoder_weight=encoder_weight,
            encoder_bias=encoder_bias,
            decoder_weight=decoder_weight,
            decoder_bias=decoder_bias,
            subtracts_bias=plan.subtracts_bias,
            k=self._of.k,
            threshold=threshold,
            skip_weight=skip_weight,
            magnitudes=magnitudes,
            input_normalization=self._of.input_normalization,
        )

    def _matrix(self, part: Part, n_rows: int, n_columns: int) -> Tensor:
        matrix = torch.empty(n_rows, n_columns)
        read_into(matrix.T if part.is_transposed else matrix, self._file, part.tensor, self._read)
        return _times(matrix, part.factor)

    def _read(self, n_values: int) -> None:
        self._n_read += n_values
        self._tell(self._n_read, self._n_values)

    def _vector(self, part: Part, length: int) -> Tensor:
        vector = torch.empty(length)
        read_into(vector, self._file, part.tensor)
        return _times(vector, part.factor)

    def _magnitudes(self, parts: MagnitudeParts) -> Magnitudes:
        log_scale = self._vector(parts.log_scale, self._of.n_latents)
        check_finite(f"exp({parts.log_scale.tensor.name})", log_scale.exp())
        return Magnitudes(log_scale, self._vector(parts.bias, self._of.n_latents))

    def _threshold(self, threshold: Threshold, decoder_weight: Tensor) -> Tensor:
        """Return thresholds [n_latents]; latents are positive, so one below 0 lets pass what 0 does."""
        values = torch.full((self._of.n_latents,), threshold.value)
        if threshold.part is not None:
            found = torch.empty(threshold.part.tensor.shape)
            read_into(found, self._file, threshold.part.tensor)
            values.copy_(found)
        if threshold.is_logarithm:
            values.exp_()
        if threshold.is_of_unit_rows:
            # Of the rows as they are stored.
            values.copy_(values * abs(self._plan.decoder_weight.factor) / _lengths(decoder_weight))
        check_finite("threshold", values)
        if not threshold.has_relu and bool((values < 0).any()):
            raise TaskError(
                "Thresholds are below 0, which let negative latents pass where it came from; no class here"
                " has these."
            )
        return values.clamp_(min=0)

    def _check_ones(self) -> None:
        header = self._plan.ones
        if header is None:
            return
        factors = torch.empty(header.shape)
        read_into(factors, self._file, header)
        # As sae-lens: of ones, it is left out.
        if factors.shape != (self._of.n_latents,) or not bool((factors == 1).all()):
            raise TaskError(f"It has scaling factors ({header.name}), which have no place in an SAE here.")


def _times(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor.mul_(factor)


def _row_slices(matrix: Tensor) -> Iterator[slice]:
    step = max(1, PIECE_BYTES // (8 * matrix.shape[1]))
    for start in range(0, len(matrix), step):
        yield slice(start, start + step)


def _lengths(matrix: Tensor) -> Tensor:
    """Return the lengths of rows in float64."""
    return torch.cat([matrix[rows].double().norm(dim=1) for rows in _row_slices(matrix)])


def fold_centering(encoder_weight: Tensor, encoder_bias: Tensor, subtracted: Tensor | None) -> None:
    """Make the encoder take the mean out of its input in place: W_e (x - mean(x) - b_d) + b_e for all x.

    ``subtracted`` is b_d, which still is subtracted before, mean and all; None where nothing is.
    """
    for rows in _row_slices(encoder_weight):
        wide = encoder_weight[rows].double()
        means = wide.mean(dim=1)
        encoder_weight[rows] = (wide - means[:, None]).float()
        if subtracted is not None:
            encoder_bias[rows] = (encoder_bias[rows] - means * subtracted.double().sum()).float()


def fold_lengths(encoder_weight: Tensor, encoder_bias: Tensor, decoder_weight: Tensor, how: UnitRows) -> None:
    """Make the decoder's rows unit in place, and the encoder's as much longer.

    Raises TaskError where a row's length is none to divide by, here or where the SAE came from.
    """
    lengths = _lengths(decoder_weight)
    if bool((lengths == 0).any()):
        raise TaskError(
            f"Rows of the decoder (W_dec) are zero, by whose length {how.option} divides: {how.library}"
            " itself gives NaN there."
        )
    dtype = TYPES[how.dtype]
    theirs = torch.cat([decoder_weight[rows].to(dtype).norm(dim=1) for rows in _row_slices(decoder_weight)])
    if not bool((torch.isfinite(theirs) & (theirs > 0)).all()):
        raise TaskError(
            f"Rows of the decoder (W_dec) are so short or so long that {how.library}, which computes their"
            f" lengths in {how.dtype} for {how.option}, gets 0 or infinity: what it gives there is no number."
            " Scale them before the SAE is saved."
        )
    encoder_bias.copy_(encoder_bias * lengths)
    for rows in _row_slices(decoder_weight):
        column = lengths[rows, None]
        encoder_weight[rows] = (encoder_weight[rows] * column).float()
        decoder_weight[rows] = (decoder_weight[rows] / column).float()


def _check_folded(encoder_weight: Tensor, encoder_bias: Tensor, *decoder: Tensor) -> None:
    """Multiplying may have made an infinite value of finite ones."""
    for name, tensor in zip(
        ("W_enc", "b_enc", "W_dec", "b_dec"), (encoder_weight, encoder_bias, *decoder), strict=True
    ):
        check_finite(name, tensor)
