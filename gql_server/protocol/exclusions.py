"""Tokens that are to be left out, beside padding and special ones."""

from gql_server.protocol.base import Message


class Exclusions(Message, frozen=True):
    """Which tokens do not count, as attention sinks and their like should not; none by default."""

    first_positions: int = 0
    """So many at the start of each text, counted from its own first token, special ones included."""
    outliers: float | None = None
    """Tokens whose activations are longer than so many times ``median_norm``; None for none."""
    median_norm: float | None = None
    """Of the activations of a run's tokens that are neither padding nor special; None where not measured."""

    @property
    def norm_limit(self) -> float | None:
        """The length above which a token is left out, where there is one."""
        if self.outliers is None or self.median_norm is None:
            return None
        return self.outliers * self.median_norm
