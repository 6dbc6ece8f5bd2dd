"""What tokens that are far longer than the others do to a training and to its statistics."""

from collections import Counter
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.exclusions import DEFAULT_OUTLIERS, norms_of, token_mask
from gql_server.compute.saes.hooks import MAX_HOOK_LATENTS
from gql_server.compute.storage.rows import StoredRows
from gql_server.compute.training.metrics import IntervalMetrics, float64
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import OutlierStatistics

from mi_crow.mechanistic.sae.sae import Sae

SAMPLE_BYTES = 64 * 2**20
"""Size of the sample of tokens: all of a smaller run, else some of up to 64 stored batches."""
FEW = 0.01
"""Warn if less than this share of the tokens has more than half of the squared deviation."""
_BATCHES_TO_SAMPLE = 64
_POSITIONS_TOLD = 3
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenSample:
    """Some tokens of a run that are neither padding nor special: activations [n, n_inputs], positions [n]."""

    rows: Tensor
    positions: Tensor


def sample_tokens(stored: StoredRows, seed: int) -> TokenSample:
    """Return all tokens of a run, excluded ones among them, or as many as are enough, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    most = max(1, SAMPLE_BYTES // (4 * stored.n_inputs))
    indices = stored.all_indices
    if stored.token_count > most:
        order = torch.randperm(len(indices), generator=generator)[:_BATCHES_TO_SAMPLE]
        indices = sorted(indices[place] for place in order.tolist())
    per_batch, rows, positions = -(-most // len(indices)), [], []
    for index in indices:
        tokens = stored.read_tokens(index)
        chosen = slice(None) if stored.token_count <= most else _some(len(tokens.rows), per_batch, generator)
        rows.append(tokens.rows[chosen])
        positions.append(tokens.positions[chosen])
    return TokenSample(torch.cat(rows), torch.cat(positions))


def _some(n: int, wanted: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:wanted].sort().values


def note_of(sample: TokenSample, exclusions: Exclusions) -> str | None:
    """Say which few tokens carry most of the squared deviation of those that count; None where none do.

    Few are those longer than DEFAULT_OUTLIERS times the median, or less than FEW of them.
    """
    kept = token_mask(exclusions, sample.positions, sample.rows)
    rows, positions = sample.rows[kept], sample.positions[kept]
    if len(rows) < 2 or exclusions.median_norm is None:
        return None
    deviations = _squared_deviations(rows)
    total = float(deviations.sum())
    if total <= 0:
        return None
    few = (norms_of(rows) > DEFAULT_OUTLIERS * exclusions.median_norm).nonzero().flatten()
    if float(deviations[few].sum()) <= total / 2:
        order = deviations.argsort(descending=True)
        few = order[: int((deviations[order].cumsum(dim=0) <= total / 2).sum()) + 1]
        if len(few) >= FEW * len(rows):
            return None
    return _note(rows[few], positions[few], len(rows), float(deviations[few].sum()) / total, exclusions)


def _squared_deviations(rows: Tensor) -> Tensor:
    """Return the squared distances of rows [n, n_inputs] from their mean, float64 [n]."""
    parts = rows.split(_ROWS_AT_ONCE)
    mean = torch.stack([float64(part).sum(dim=0) for part in parts]).sum(dim=0) / len(rows)
    return torch.cat([(float64(part) - mean).square().sum(dim=1) for part in parts])


def _note(rows: Tensor, positions: Tensor, n_all: int, share: float, exclusions: Exclusions) -> str:
    counts = Counter(positions.tolist()).most_common()
    where = ", ".join(f"{n:,} at position {position}" for position, n in counts[:_POSITIONS_TOLD])
    where += (
        f", {sum(n for _, n in counts[_POSITIONS_TOLD:]):,} elsewhere"
        if len(counts) > _POSITIONS_TOLD
        else ""
    )
    remedies = []
    last = max(position for position, _ in counts)
    if last < _POSITIONS_TOLD:
        remedies.append(f"excludeFirstPositions: {last + 1}")
    assert exclusions.median_norm is not None
    multiple = float(norms_of(rows).min()) / exclusions.median_norm if exclusions.median_norm else 0.0
    if multiple > 2:
        remedies.append(f"excludeOutliers: {min(DEFAULT_OUTLIERS, int(multiple)):g}")
    leave_out = f"Train with {' or '.join(remedies)} to leave them out." if remedies else ""
    return (
        f"{len(rows):,} of {n_all:,} tokens ({len(rows) / n_all:.2%}) carry {share:.1%} of the squared "
        "deviation from the mean, so they decide the loss and explained variance: "
        f"{where} of their texts. {leave_out}"
    ).rstrip()


@torch.no_grad()
def outlier_statistics(sae: Sae, sample: TokenSample, exclusions: Exclusions) -> OutlierStatistics | None:
    """Measure an SAE in evaluation mode with the outliers of its run and without; None without a token."""
    if exclusions.median_norm is None:
        return None
    multiple = exclusions.outliers or DEFAULT_OUTLIERS
    limits = msgspec.structs.replace(exclusions, outliers=multiple)
    with_them, without = IntervalMetrics(), IntervalMetrics()
    size, n_outliers = max(1, MAX_HOOK_LATENTS // sae.context.n_latents), 0
    for rows, positions in zip(sample.rows.split(size), sample.positions.split(size), strict=True):
        x = rows.to(sae.context.device)
        x_hat, kept = sae.decode(sae.encode(x)), token_mask(limits, positions, rows)
        nothing = torch.zeros((), device=x.device)
        with_them.update(x, x_hat, nothing, nothing)
        without.update(x[kept], x_hat[kept], nothing, nothing)
        n_outliers += int((~kept).sum())
    return OutlierStatistics(
        median_norm=exclusions.median_norm,
        multiple=multiple,
        token_count=len(sample.rows),
        outlier_count=n_outliers,
        explained_variance_with_outliers=with_them.summary().explained_variance,
        explained_variance_without_outliers=without.summary().explained_variance,
    )


def outlier_sentence(statistics: OutlierStatistics) -> str:
    """Say it to people."""
    with_them, without = (
        "undefined" if figure is None else f"{figure:.4f}"
        for figure in (
            statistics.explained_variance_with_outliers,
            statistics.explained_variance_without_outliers,
        )
    )
    return (
        f"Explained variance of the finished SAE on {statistics.token_count:,} tokens of the run: "
        f"{with_them} with, {without} without the {statistics.outlier_count:,} that are excluded or longer"
        f" than {statistics.multiple:g} times the median."
    )
