"""Which neurons fire together: Pearson correlations of their activations over tokens, by sparse products.

With x and y the latents of two neurons on T tokens, zeros included,

    r = (sum(x y) / T - mean(x) mean(y)) / (std(x) std(y)).

Two neurons that never fire on one token have r below 0, so those with r above 0 are among the pairs of the
sparse matrix's product with its transpose: it is made for some neurons at a time, and each keeps its largest.
That is exact over the tokens of the firings given, in float64. Time goes by the pairs of firings on one
token, which FiringSample bounds: where a run has more, r is of the texts that it has sampled.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from gql_server.compute.indexing.firing_sample import KeptFirings
from gql_server.compute.worker.stages import Tell

KEPT = 50
MIN_FIRINGS = 5
"""Of a neuron that is compared: two that fire once, on one token, would correlate by 1."""
_NO_VARIANCE = 1e-9
"""Variance, as a part of the mean square, that is rounding: the neuron has one value on all tokens."""
_PAIRS_AT_ONCE = 2**24
Floats = NDArray[np.float64]


def correlated_neurons(firings: KeptFirings, n_neurons: int, tell: Tell) -> dict[str, Tensor]:
    """Return each neuron's largest correlations with others, largest first, and of which neurons they are.

    Only those above 0 are kept, of neurons that fire ``MIN_FIRINGS`` times and not always with one value; of
    equal ones the lower neuron comes first. Entries without one are -1 and 0.
    ``tell`` is called between chunks.
    """
    neurons = np.full((n_neurons, KEPT), -1, np.int32)
    correlations = np.zeros((n_neurons, KEPT), np.float32)
    if len(firings.rows):
        shape = (len(firings.row_texts), n_neurons)
        values = firings.values.astype(np.float64)
        ends = np.cumsum(np.bincount(firings.rows, minlength=shape[0]))
        by_token = sparse.csr_array(
            (values, firings.neurons, np.concatenate([[0], ends]).astype(np.int32)), shape=shape
        )
        by_neuron = by_token.T.tocsr()
        means, deviations = _moments(firings, values, n_neurons)
        for start, stop in _chunks(by_token, by_neuron):
            tell(start, n_neurons)
            products = by_neuron[start:stop] @ by_token
            for neuron in range(start, stop):
                begin, end = products.indptr[neuron - start : neuron - start + 2]
                others = products.indices[begin:end]
                covariances = products.data[begin:end] / firings.token_count - means[neuron] * means[others]
                with np.errstate(divide="ignore", invalid="ignore"):
                    found = covariances / (deviations[neuron] * deviations[others])
                chosen = _largest(found, others, neuron)
                neurons[neuron, : len(chosen)] = others[chosen]
                correlations[neuron, : len(chosen)] = found[chosen].clip(max=1.0)
    return {
        "correlated_neurons": torch.from_numpy(neurons),
        "correlations": torch.from_numpy(correlations),
        "correlation_token_count": torch.tensor([firings.token_count]),
    }


def _moments(firings: KeptFirings, values: Floats, n_neurons: int) -> tuple[Floats, Floats]:
    """Return means and standard deviations over all tokens, [n_neurons] each; 0 for what is not compared."""
    sums = np.bincount(firings.neurons, values, n_neurons)
    squares = np.bincount(firings.neurons, values**2, n_neurons) / firings.token_count
    means = sums / firings.token_count
    variances = squares - means**2
    rare = np.bincount(firings.neurons, minlength=n_neurons) < MIN_FIRINGS
    variances[rare | (variances <= _NO_VARIANCE * squares)] = 0.0
    return means, np.sqrt(variances)


def _chunks(by_token: sparse.csr_array, by_neuron: sparse.csr_array) -> Iterator[tuple[int, int]]:
    """Give runs of neurons whose pairs fit into memory."""
    on_token = np.diff(by_token.indptr).astype(np.int64)
    pairs = np.concatenate([[0], np.cumsum(on_token[by_neuron.indices])])[by_neuron.indptr]
    start, n_neurons = 0, len(pairs) - 1
    while start < n_neurons:
        stop = int(np.searchsorted(pairs, pairs[start] + _PAIRS_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), n_neurons)
        yield start, stop
        start = stop


def _largest(found: Floats, others: NDArray[np.int32], neuron: int) -> NDArray[np.intp]:
    """Return the places of the largest correlations above 0 with other neurons, largest first."""
    there = np.flatnonzero((found > 0) & np.isfinite(found) & (others != neuron))
    if len(there) > KEPT:
        bound = np.partition(found[there], len(there) - KEPT)[len(there) - KEPT]
        there = there[found[there] >= bound]
    ordered: NDArray[np.intp] = there[np.lexsort((others[there], -found[there]))][:KEPT]
    return ordered
