"""Sparse codes against the dense latents that they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.codes import Codes, codes_of
from gql_server.compute.saes.linear_decoder import linear_decoder
from gql_server.compute.saes.strength_keys import numbers_of, renumbered, strength_keys, strengths_of
from tests.compute.dummy_sae import DummySae

from mi_crow.mechanistic.sae.sae import Sae

N_INPUTS, N_LATENTS, K = 12, 80, 4
CLASSES = ["TopKSae", "L1Sae", "ReLUSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae"]
STRENGTHS = st.floats(2.0**-126, 2.0**127, width=32)


def make(name: str) -> Sae:
    torch.manual_seed(1)
    sae = SaeClasses().get(name).build(N_LATENTS, N_INPUTS, K, "cpu")
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    if hasattr(sae.sae_engine, "decoder_bias"):
        sae.sae_engine.decoder_bias.normal_()
    if hasattr(sae.sae_engine, "threshold"):
        sae.sae_engine.threshold.data.fill_(1.5)
    return sae


def activations(n: int = 9) -> Tensor:
    return torch.randn(n, N_INPUTS, generator=torch.Generator().manual_seed(0))


def test_codes_are_the_latents_without_their_zeros() -> None:
    latents = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 0.5]])
    codes = Codes.of(latents)
    assert (codes.n_rows, codes.n_latents, len(codes.values)) == (3, 3, 4)
    assert torch.equal(codes.dense(), latents)
    assert [(neurons.tolist(), values.tolist()) for neurons, values in codes.by_row()] == [
        ([1], [2.0]),
        ([], []),
        ([0, 1, 2], [3.0, -1.0, 0.5]),
    ]
    positive = codes.only(codes.values > 0)
    assert torch.equal(positive.dense(), latents.clamp(min=0))


@pytest.mark.parametrize("sizes", [[6], [1, 5], [2, 0, 3, 1]])
def test_codes_of_consecutive_rows_join_to_those_of_all(sizes: list[int]) -> None:
    latents = activations(6).relu()
    joined = Codes.joined([Codes.of(part) for part in latents.split(sizes)])
    assert joined.n_rows == 6
    assert torch.equal(joined.dense(), latents)


@pytest.mark.parametrize(
    "name", ["TopKSae", "L1Sae", "ReLUSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae"]
)
def test_decoding_the_rows_that_codes_name_is_decoding_all_of_them(name: str) -> None:
    sae = make(name)
    codes = codes_of(sae, activations())
    decoder = linear_decoder(sae)
    assert decoder is not None
    for some in (
        codes,
        codes.only(codes.rows != 4),
        codes.only(codes.neurons < 5),
        codes.only(codes.rows < 0),
    ):
        torch.testing.assert_close(decoder.decode(some), sae.decode(some.dense()), atol=1e-5, rtol=1e-5)


def test_a_class_that_an_installation_registers_decodes_itself() -> None:
    class Doubling(type(make("BatchTopKSae"))):  # type: ignore[misc]
        """Not what its parent is."""

    assert linear_decoder(DummySae(N_LATENTS, N_INPUTS)) is None
    assert linear_decoder(Doubling(N_LATENTS, N_INPUTS)) is None


@given(st.lists(st.tuples(STRENGTHS, st.integers(0, 2**31 - 1)), min_size=1, max_size=30))
def test_keys_are_in_the_order_of_strengths_and_then_of_lower_numbers(pairs: list[tuple[float, int]]) -> None:
    strengths = torch.tensor([strength for strength, _ in pairs], dtype=torch.float32)
    numbers = torch.tensor([number for _, number in pairs])
    keys = strength_keys(strengths, numbers)
    assert bool((keys > 0).all())
    assert torch.equal(strengths_of(keys), strengths)
    assert torch.equal(numbers_of(keys), numbers)
    order = np.lexsort((numbers.numpy(), -strengths.numpy().astype(np.float64)))
    by_key = keys.sort(descending=True, stable=True).indices
    assert [pairs[i] for i in by_key.tolist()] == [pairs[i] for i in order.tolist()]
    again = renumbered(keys, torch.arange(len(pairs)))
    assert torch.equal(again, strength_keys(strengths, torch.arange(len(pairs))))
    assert bool((strength_keys(-strengths, numbers) < 0).all())


def test_the_key_of_nothing_stays_nothing() -> None:
    nothing = torch.zeros(2, dtype=torch.int64)
    assert strengths_of(nothing).tolist() == [0.0, 0.0]
    assert numbers_of(nothing, nothing=-1).tolist() == [-1, -1]
    assert renumbered(nothing, torch.tensor([5, 7])).tolist() == [0, 0]
