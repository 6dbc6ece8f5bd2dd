"""Sparse latents and the choice of the strongest, against NumPy over all latents."""

from typing import Any

import numpy as np
import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes import sparse_latents
from gql_server.compute.saes.selection import strongest
from gql_server.compute.saes.sparse_latents import SparseLatents, chunks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9, 7), (4, 1000), (3, 4096), (2, 5, 4099)])
@pytest.mark.parametrize("k", [1, 5])
def test_the_strongest_are_those_that_sorting_finds(
    shape: tuple[int, ...], k: int, dtype: torch.dtype
) -> None:
    values = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
    found, places = strongest(values, k)
    expected = np.sort(values.numpy(), axis=-1)[..., : -k - 1 : -1]
    np.testing.assert_array_equal(np.sort(found.numpy(), axis=-1)[..., ::-1], expected)
    assert torch.equal(values.gather(-1, places), found)
    assert all(len(set(row)) == k for row in places.flatten(0, -2).tolist())


def test_the_strongest_are_found_where_they_crowd_in_one_group_and_among_equal_values() -> None:
    """4,096 columns for k 32 make groups of 8 or 16: columns that are so far apart are one group's."""
    crowded = torch.zeros(2, 4096)
    crowded[0, 7::256] = torch.arange(1.0, 17.0)
    crowded[1, -20:] = 1.0
    values, places = strongest(crowded, 32)
    assert sorted(values[0].tolist())[-16:] == list(range(1, 17))
    assert set(places[0].tolist()) > set(range(7, 4096, 256))
    assert values[1].sum() == 20
    assert set(places[1].tolist()) > set(range(4076, 4096))


def sparse(seed: int = 0) -> tuple[torch.Tensor, SparseLatents]:
    """Make latents [6, 10] of which some are 0, one token's and one neuron's all of them."""
    latents = torch.randn(6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    latents[latents.abs() < 0.5] = 0
    latents[2], latents[:, 4] = 0, 0
    return latents, SparseLatents.of(latents)


def test_sparse_products_are_those_of_the_dense_matrix() -> None:
    latents, places = sparse()
    of_latents, of_tokens = (torch.randn(n, 3, dtype=torch.float64) for n in (10, 6))
    pattern = places.pattern
    torch.testing.assert_close(pattern.times(places.values, of_latents), latents @ of_latents)
    torch.testing.assert_close(pattern.transposed_times(places.values, of_tokens), latents.T @ of_tokens)
    torch.testing.assert_close(
        pattern.products(of_tokens, of_latents), (of_tokens @ of_latents.T)[latents != 0]
    )
    torch.testing.assert_close(pattern.sums(places.values), latents.sum(dim=0))


def test_parts_are_joined_and_places_kept_token_by_token() -> None:
    latents, places = sparse(1)
    parts = [SparseLatents.of(part) for part in latents.split([1, 2, 3])]
    joined = SparseLatents.joined(parts)
    for found, expected in ((joined, places), (SparseLatents.joined(parts[:1]), parts[0])):
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.neurons, expected.neurons)
        assert torch.equal(found.pattern.offsets, expected.pattern.offsets)
    positive = joined.only(joined.values > 0)
    dense = torch.zeros(6, 10, dtype=torch.float64)
    dense[positive.rows, positive.neurons] = positive.values
    assert torch.equal(dense, latents.clamp(min=0))


def test_equally_many_of_each_token_are_places_too() -> None:
    values, neurons = torch.tensor([[3.0, 1.0], [2.0, -1.0]]), torch.tensor([[4, 0], [1, 2]])
    pattern = SparseLatents.of_each(values, neurons, 5).pattern
    assert pattern.times(values.flatten(), torch.eye(5)).tolist() == [[1, 0, 0, 0, 3], [0, 2, -1, 0, 0]]


def test_chunks_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_latents, "MAX_DENSE_LATENTS", 50)
    assert [len(part) for part in chunks(torch.zeros(12, 3), 10)] == [5, 5, 2]
    assert [len(part) for part in chunks(torch.zeros(2, 3), 1000)] == [1, 1]


@pytest.mark.parametrize("n_columns", [3, 16, 64, 70])
@pytest.mark.parametrize("bounds", ["a number", "a tensor", "one each"])
def test_what_is_above_a_bound_is_found_and_what_is_not_a_number_is_not_lost(
    n_columns: int, bounds: str
) -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(30, n_columns, generator=generator)
    values[4, 1], values[7, 0], values[9] = float("nan"), float("inf"), -5.0
    bound: Any = {"a number": 0.5, "a tensor": torch.tensor(0.5), "one each": torch.rand(n_columns)}[bounds]
    places = SparseLatents.above(values, bound)
    dense = torch.zeros_like(values)
    dense[places.rows, places.neurons] = places.values
    expected = np.where(~(values.numpy() <= np.asarray(bound)), values.numpy(), 0)
    np.testing.assert_array_equal(dense.numpy(), expected)
    assert len(places.values) == np.count_nonzero(expected)
