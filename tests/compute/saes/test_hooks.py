"""Our hook against NumPy, mi_crow's own hook, and the bare model."""

import pytest
import torch
from torch import Tensor

from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.hooks import Mode, SaeHook, attached
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import Edit, LanguageModelSource
from tests.compute.sae_fixtures import LAYER, N_LATENTS, K, layer_output, logits, make_sae

from mi_crow.language_model.language_model import LanguageModel

IDS = [0, 50, 60, 70, 80, 90, 100]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    """Give the tiny model."""
    return language_models.get(tiny_source)


def steered(lm: LanguageModel, hook: SaeHook) -> Tensor:
    """Return the layer's output with the hook on it."""
    with attached(lm, LAYER, hook):
        return layer_output(lm, IDS)


def test_an_observing_hook_keeps_the_sparse_codes_and_touches_nothing(lm: LanguageModel) -> None:
    sae = make_sae(lm)
    before, bare = layer_output(lm, IDS), logits(lm, IDS)
    hook = SaeHook(sae)
    with attached(lm, LAYER, hook):
        assert torch.equal(logits(lm, IDS), bare)
    assert hook.latents is not None
    assert hook.latents.shape == (1, len(IDS), N_LATENTS)
    torch.testing.assert_close(hook.latents[0], sae.encode(before))
    assert int((hook.latents != 0).sum(dim=-1).max()) <= K
    assert float(hook.latents.min()) == 0


@pytest.mark.parametrize("edits", [[], [Edit(3, 1.0, 0.0), Edit(4, 1.0, 0.0)]])
def test_error_preserving_without_an_effective_edit_touches_nothing(
    lm: LanguageModel, edits: list[Edit]
) -> None:
    hook = SaeHook(make_sae(lm), "ERROR_PRESERVING", edits)
    output = torch.randn(1, 4, 32)
    assert hook.modify_activations(lm.model, None, output) is None
    bare = logits(lm, IDS)
    with attached(lm, LAYER, hook):
        assert torch.equal(logits(lm, IDS), bare)


def test_error_preserving_adds_what_the_edit_changes_in_the_reconstruction(lm: LanguageModel) -> None:
    sae = make_sae(lm)
    before = layer_output(lm, IDS)
    latents = sae.encode(before).numpy()
    neuron = int(latents.sum(axis=0).argmax())
    dictionary = sae.sae_engine.get_dictionary().numpy()
    change = (latents[:, neuron] * 3.0 + 0.5) - latents[:, neuron]
    expected = before.numpy() + change[:, None] * dictionary[neuron][None]
    found = steered(lm, SaeHook(sae, "ERROR_PRESERVING", [Edit(neuron, 3.0, 0.5)]))
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ReLUSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae"])
def test_a_decoder_bias_of_any_size_cancels_where_the_error_is_preserved(
    lm: LanguageModel, name: str
) -> None:
    sae = make_sae(lm, name)
    engine = sae.sae_engine
    engine.decoder_bias.fill_(300.0)
    if hasattr(engine, "threshold"):
        engine.threshold.data.fill_(0.5)
    output = 300 + torch.randn(1, 40, 32, generator=torch.Generator().manual_seed(0))
    fires = sae.encode(output[0]) > 0
    neuron = int(((fires.sum(dim=0) > 3) & (fires.sum(dim=0) < 37)).nonzero()[0])
    silent = SaeHook(sae, "ERROR_PRESERVING", [Edit(neuron, 3.0, 0.0)])
    assert silent.modify_activations(lm.model, None, output[:, ~fires[:, neuron]]) is None
    assert SaeHook(sae, "ERROR_PRESERVING").modify_activations(lm.model, None, output) is None
    found = SaeHook(sae, "ERROR_PRESERVING", [Edit(neuron, 3.0, 0.5)]).modify_activations(
        lm.model, None, output
    )
    assert found is not None
    change = 2.0 * sae.encode(output[0])[:, neuron].double() + 0.5
    expected = change[:, None] * engine.decoder_weight[neuron].double()
    torch.testing.assert_close((found - output)[0].double(), expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
@pytest.mark.parametrize("name", ["TopKSae", "BatchTopKSae"])
def test_an_sae_of_an_unknown_class_is_steered_by_its_own_decode(
    lm: LanguageModel, name: str, mode: Mode
) -> None:
    sae, decoded = make_sae(lm, name), []

    class Watched(type(sae)):  # type: ignore[misc]
        """A class that nobody here knows."""

        def decode(self, latents: Tensor) -> Tensor:
            decoded.append(latents)
            reconstruction: Tensor = super().decode(latents)
            return reconstruction

    edits = [Edit(3, 2.0, 1.5), Edit(11, 0.0, 0.0), Edit(30, -1.0, -0.5)]
    expected = steered(lm, SaeHook(sae, mode, edits))
    sae.__class__ = Watched
    found = steered(lm, SaeHook(sae, mode, edits))
    assert len(decoded) > 0
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert not torch.allclose(found, layer_output(lm, IDS), atol=1e-2)


def test_a_multiplier_leaves_positions_alone_where_the_neuron_does_not_fire(lm: LanguageModel) -> None:
    sae = make_sae(lm)
    before = layer_output(lm, IDS)
    fires = sae.encode(before) != 0
    neuron = int(((fires.sum(dim=0) > 0) & (fires.sum(dim=0) < len(IDS))).nonzero()[0])
    after = steered(lm, SaeHook(sae, "ERROR_PRESERVING", [Edit(neuron, -2.0, 0.0)]))
    changed = (after != before).any(dim=1)
    assert torch.equal(changed, fires[:, neuron])


def test_only_editable_positions_are_edited(lm: LanguageModel) -> None:
    before = layer_output(lm, IDS)
    hook = SaeHook(make_sae(lm), "ERROR_PRESERVING", [Edit(7, 1.0, 2.0)])
    hook.edit_mask = torch.tensor([[False, True, False, True, True, True, False]])
    after = steered(lm, hook)
    assert torch.equal((after != before).any(dim=1), hook.edit_mask[0])


@pytest.mark.parametrize("name", ["TopKSae", "L1Sae"])
def test_reconstruction_without_edits_is_what_mi_crows_own_hook_does(lm: LanguageModel, name: str) -> None:
    sae = make_sae(lm, name)
    ours = SaeHook(sae, "RECONSTRUCTION")
    ours.edit_mask = torch.zeros(1, len(IDS), dtype=torch.bool)
    found = steered(lm, ours)
    lm.layers.register_hook(LAYER, sae)
    try:
        expected = layer_output(lm, IDS)
    finally:
        lm.layers.unregister_hook(sae)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_editing_one_neuron_leaves_every_other_latent_as_it_was(lm: LanguageModel, mode: Mode) -> None:
    sae = make_sae(lm)
    latents = sae.encode(layer_output(lm, IDS))
    hook = SaeHook(sae, mode, [Edit(9, 0.0, 5.0)])
    edited = hook._edit(latents)
    others = [neuron for neuron in range(N_LATENTS) if neuron != 9]
    assert torch.equal(edited[:, others], latents[:, others])
    assert torch.equal(edited[:, 9], torch.full((len(IDS),), 5.0))
    steered(lm, hook)
    assert hook.latents is not None
    torch.testing.assert_close(hook.latents[0], latents)


def test_reconstruction_with_an_edit_equals_mi_crows_own_hook_with_its_bias_put_right(
    lm: LanguageModel,
) -> None:
    sae = make_sae(lm)
    found = steered(lm, SaeHook(sae, "RECONSTRUCTION", [Edit(9, 0.5, 5.0)]))
    sae.concepts.multiplication.data[9], sae.concepts.bias.data[9] = 0.5, 5.0
    lm.layers.register_hook(LAYER, sae)
    try:
        expected = layer_output(lm, IDS)
    finally:
        lm.layers.unregister_hook(sae)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_a_bfloat16_layer_stays_bfloat16_and_the_sae_computes_in_float32(
    lm: LanguageModel, mode: Mode
) -> None:
    hook = SaeHook(make_sae(lm), mode, [Edit(9, 1.0, 5.0)])
    output = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    changed = hook.modify_activations(lm.model, None, output)
    assert changed is not None
    assert changed.dtype == torch.bfloat16
    assert changed.shape == output.shape
    assert hook.latents is not None
    assert hook.latents.dtype == torch.float32


def test_the_hook_is_gone_after_an_error(lm: LanguageModel) -> None:
    bare = logits(lm, IDS)
    hook = SaeHook(make_sae(lm), "RECONSTRUCTION")
    with pytest.raises(KeyError), attached(lm, LAYER, hook):
        raise KeyError
    assert torch.equal(logits(lm, IDS), bare)
    assert lm.layers.get_hooks() == []


def test_two_hooks_on_one_layer_are_kept_apart(lm: LanguageModel) -> None:
    sae = make_sae(lm)
    with attached(lm, LAYER, SaeHook(sae)) as one, attached(lm, LAYER, SaeHook(sae)) as two:
        logits(lm, IDS)
    assert one.id != two.id
    assert one.latents is not None
    assert two.latents is not None
    assert torch.equal(one.latents, two.latents)


def test_a_layer_that_the_model_lacks_is_a_conflict(lm: LanguageModel) -> None:
    with (
        pytest.raises(TaskError, match="no layer 'nowhere'") as caught,
        attached(lm, "nowhere", SaeHook(make_sae(lm))),
    ):
        pass
    assert caught.value.code == "CONFLICT"
