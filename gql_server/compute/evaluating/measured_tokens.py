"""Which tokens an evaluation measures on, and what outliers do to its explained variance."""

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from gql_server.compute.exclusions import DEFAULT_OUTLIERS, token_mask
from gql_server.compute.non_finite import MAX_SHARE, cause_in_model
from gql_server.compute.training.metrics import IntervalMetrics
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.exclusions import Exclusions


@dataclass(frozen=True)
class Choice:
    """Tokens of a padded batch that are neither padding nor special: bool [n_texts, n_positions] each."""

    finite: Tensor
    """Tokens with finite activations, excluded ones included."""
    measured: Tensor
    """Finite tokens that are not excluded."""
    typical: Tensor
    """Measured tokens that are no outliers; all of them where no median norm is known."""


class MeasuredTokens:
    """Chooses tokens batch by batch, and counts those that are left out."""

    def __init__(self, exclusions: Exclusions) -> None:
        self.exclusions = exclusions
        multiple = exclusions.outliers or DEFAULT_OUTLIERS
        self._limits = msgspec.structs.replace(exclusions, outliers=multiple)
        self.token_count = self.excluded_count = self.non_finite_count = self._outlier_count = 0
        self._with_outliers, self._without = IntervalMetrics(), IntervalMetrics()

    def choose(self, x: Tensor, positions: Tensor, real: Tensor, written: Tensor | None = None) -> Choice:
        """Choose among the ``real`` tokens, neither padding nor special, by activations x [..., n_inputs].

        ``written`` [..., n_outputs] is what a transcoder reconstructs, which must be finite as well.
        """
        shape, rows, places = real.shape, x.flatten(0, 1), positions.flatten().to(x.device)
        finite = real.to(x.device) & x.isfinite().all(dim=-1)
        if written is not None:
            finite &= written.isfinite().all(dim=-1).to(x.device)
        measured = finite & token_mask(self.exclusions, places, rows).view(shape)
        typical = measured & token_mask(self._limits, places, rows).view(shape)
        self.token_count += int(real.sum())
        self.non_finite_count += int(real.sum()) - int(finite.sum())
        self.excluded_count += int(finite.sum()) - int(measured.sum())
        self._outlier_count += int(finite.sum()) - int(typical.sum())
        return Choice(finite, measured, typical)

    def update(self, x: Tensor, x_hat: Tensor, typical: Tensor) -> None:
        """Add finite tokens' activations and reconstructions [n, n_inputs], and which are typical [n]."""
        nothing = torch.zeros((), device=x.device)
        self._with_outliers.update(x, x_hat, nothing, nothing)
        self._without.update(x[typical], x_hat[typical], nothing, nothing)

    @property
    def outlier_count(self) -> int | None:
        """Tokens that are excluded or outliers; None where no median is known."""
        return None if self.exclusions.median_norm is None else self._outlier_count

    @property
    def explained_variance_with_outliers(self) -> float | None:
        """Of all tokens, excluded ones among them."""
        return self._with_outliers.summary().explained_variance

    @property
    def explained_variance_without_outliers(self) -> float | None:
        """Of those that are neither excluded nor outliers; None where no median is known."""
        if self.exclusions.median_norm is None:
            return None
        return self._without.summary().explained_variance

    def check(self, dtype: str) -> None:
        """Raise TaskError where too many tokens are not finite, of a model in ``dtype``, or none is left."""
        if self.non_finite_count > MAX_SHARE * self.token_count:
            raise TaskError(
                f"The language model's activations are NaN or infinite at {self.non_finite_count:,} of "
                f"{self.token_count:,} tokens, and {MAX_SHARE:.0%} may be left out. {cause_in_model(dtype)}",
                "CONFLICT",
            )
        if self.excluded_count + self.non_finite_count == self.token_count:
            reason = "No token is left to measure on: exclude less, or take other texts."
            raise TaskError(reason, "INVALID", ("excludeFirstPositions",))
