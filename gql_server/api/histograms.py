"""Histograms."""

import math
from collections.abc import Sequence

import strawberry

from gql_server.api.common import BigInt, object_type
from gql_server.api.whole_lists import Whole


@object_type
class Histogram:
    """Counts in bins that lie side by side."""

    edges: list[float] = strawberry.field(description="One more than counts, ascending.")
    counts: list[BigInt] = strawberry.field(description="How many values lie between each two edges.")


def histogram(edges: Sequence[float], counts: Sequence[int]) -> Histogram:
    """Return a histogram as it is shown."""
    return Histogram(edges=Whole(map(float, edges)), counts=Whole(map(BigInt, map(int, counts))))


def histogram_between(low: float, high: float, counts: Sequence[int]) -> Histogram | None:
    """Return the histogram of even bins between two edges; None where these are not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    shares = [place / len(counts) for place in range(len(counts) + 1)]
    return histogram([low * (1 - share) + high * share for share in shares], counts)


def even_histogram(limit: float, counts: Sequence[int]) -> Histogram | None:
    """Return the histogram whose bins divide 0 to ``limit`` evenly; without values it has no bins.

    None where the limit is not finite, as in indexes of infinite activations made before those were refused.
    """
    if not math.isfinite(limit):
        return None
    if not limit > 0:
        return histogram([0.0], [])
    return histogram([limit * place / len(counts) for place in range(len(counts) + 1)], counts)
