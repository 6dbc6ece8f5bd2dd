"""Sparse latents of every class against encode() over all latents."""

from typing import Any

import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.worker.context import TaskError
from tests.compute.dummy_sae import DummySae


@pytest.mark.parametrize(
    ("name", "k"),
    [
        ("TopKSae", 4),
        ("BiasedTopKSae", 4),
        ("BatchTopKSae", 4),
        ("JumpReLUSae", 4),
        ("L1Sae", None),
        ("ReLUSae", None),
        ("GatedSae", None),
    ],
)
def test_codes_are_what_encode_gives_by_row(name: str, k: int | None) -> None:
    torch.manual_seed(2)
    sae = SaeClasses().get(name).build(900, 12, k, "cpu")
    engine: Any = sae.sae_engine
    if hasattr(engine, "threshold"):
        engine.threshold.data.fill_(0.3)
    place(sae, "cpu")
    x = torch.randn(50, 12)
    dense = sae.encode(x).detach()
    sparse = sparse_latents_of(sae, x)
    assert torch.equal(sparse.rows, sparse.rows.sort().values)
    assert (sparse.values != 0).all()
    assert len(sparse.values) == int((dense != 0).sum()) > 50
    torch.testing.assert_close(sparse.dense(), dense)


def test_sparse_latents_of_another_packages_class_are_what_it_encodes() -> None:
    torch.manual_seed(2)
    sae = DummySae(30, 12)
    x = torch.randn(5, 12)
    sparse, dense = sparse_latents_of(sae, x), sae.encode(x).detach()
    assert torch.equal(sparse.neurons, dense.nonzero()[:, 1])
    assert torch.equal(sparse.values, dense[dense != 0])


@pytest.mark.parametrize("name", ["BatchTopKSae", "TopKSae", "L1Sae"])
def test_codes_that_are_not_finite_are_refused(name: str) -> None:
    sae = SaeClasses().get(name).build(900, 12, None if name == "L1Sae" else 4, "cpu")
    place(sae, "cpu")
    x = torch.randn(5, 12)
    x[3, 4] = float("nan")
    with pytest.raises(TaskError, match="activations are not finite"):
        sparse_latents_of(sae, x)
