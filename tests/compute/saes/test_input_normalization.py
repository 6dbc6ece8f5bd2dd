"""Tokens that can hardly be normalized: zeros, and ones whose values are all the same."""

import pytest
import torch

from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.encoding import decode
from gql_server.compute.saes.input_normalization import normalized, restored
from gql_server.formats.input_normalizations import InputNormalization

N_INPUTS = 12


def test_zeros_have_no_length_to_divide_by_and_are_reconstructed_as_zeros() -> None:
    rows = torch.tensor([[0.0] * N_INPUTS, [-2.0] * N_INPUTS])
    assert normalized("RMS_NORM", rows).tolist() == [[0.0] * N_INPUTS, [-1.0] * N_INPUTS]
    decoded = torch.arange(2.0 * N_INPUTS).reshape(2, N_INPUTS)
    found = restored("RMS_NORM", decoded, rows)
    assert not found[0].any() and torch.equal(found[1], 2 * decoded[1])


def test_a_token_of_equal_values_is_its_mean() -> None:
    rows = torch.full((1, N_INPUTS), 3.0)
    assert not normalized("LAYER_NORM", rows).any()
    assert torch.equal(restored("LAYER_NORM", torch.randn(1, N_INPUTS), rows), rows)


@pytest.mark.parametrize("how", ["LAYER_NORM", "RMS_NORM"])
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_longer_tokens_have_the_same_latents_and_as_much_longer_reconstructions(
    how: InputNormalization, factor: float
) -> None:
    torch.manual_seed(0)
    sae = SaeClasses().get("ReLUSae").build(40, N_INPUTS, None, "cpu")
    sae.sae_engine.decoder_bias.data.normal_()
    sae.sae_engine.input_normalization = how
    place(sae, "cpu")
    x = torch.randn(30, N_INPUTS) + 0.5
    with torch.no_grad():
        latents, longer = sae.encode(x), sae.encode(factor * x)
        # 1e-5 beside a standard deviation of 1e-3 is a hundredth.
        tolerance = 0.02 if (how, factor) == ("LAYER_NORM", 1e-3) else 1e-4
        torch.testing.assert_close(longer, latents, rtol=tolerance, atol=tolerance)
        found = decode(sae, latents, of=factor * x) / factor
        torch.testing.assert_close(found, decode(sae, latents, of=x), rtol=1e-4, atol=1e-4)
