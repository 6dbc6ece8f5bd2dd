"""What mi_crow and overcomplete get wrong about SAEs; when one of these fails, its workaround can go.

Each names the workaround's place.
"""

import inspect
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import place

from mi_crow.hooks.controller import Controller
from mi_crow.hooks.detector import Detector
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae, TopKSaeTrainingConfig
from mi_crow.mechanistic.sae.sae_trainer import SaeTrainer, SaeTrainingConfig
from mi_crow.store.local_store import LocalStore
from mi_crow.store.store_dataloader import StoreDataloader
from overcomplete.sae.dictionary import DictionaryLayer
from overcomplete.sae.jump_sae import JumpReLU
from overcomplete.sae.kernels import rectangle_kernel

WIDTH = 6


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Give a run of two stored batches of 40 rows; the second lacks layer b."""
    torch.manual_seed(0)
    store = LocalStore(tmp_path)
    for batch in range(2):
        rows = torch.randn(4, 10, WIDTH) + 50
        tensors = {"a": {"activations": rows}} | ({"b": {"activations": rows}} if batch == 0 else {})
        store.put_detector_metadata("run", batch, {}, tensors)
    return store


def trained(store: LocalStore, training_run_id: str = "training", **config: Any) -> dict[str, list[float]]:
    """Train as upstream would have it and return its history."""
    sae = TopKSae(n_latents=12, n_inputs=WIDTH)
    sae.sae_engine = sae._initialize_sae_engine(k=3)
    options: dict[str, Any] = {"use_amp": False, "batch_size": 16, "monitoring": 1} | config
    with redirect_stdout(io.StringIO()):
        result = sae.trainer.train(store, "run", "a", SaeTrainingConfig(**options), training_run_id)
    history: dict[str, list[float]] = result["history"]
    return history


def test_the_trainers_own_checkpoint_of_a_top_k_sae_lacks_k(store: LocalStore, tmp_path: Path) -> None:
    """Workaround: trainer.py saves nothing; saes/classes.py saves by the SAE's own save()."""
    trained(store)
    with pytest.raises(KeyError, match="k"):
        TopKSae.load(tmp_path / "runs" / "training" / "model.pt")


def test_the_trainer_writes_into_the_captured_run_and_swallows_errors(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workaround: trainer.py saves nothing."""
    trained(store, training_run_id="run")
    assert (tmp_path / "runs" / "run" / "meta.json").exists()

    def fail(*args: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "put_run_metadata", fail)
    trained(store)


def test_the_historys_numbers_are_not_what_their_names_say(store: LocalStore) -> None:
    """Workaround: metrics.py."""
    history = trained(store)
    assert history["l0"] == [0.0]
    assert history["recon_mse"][0] == pytest.approx(1 - history["r2"][0])
    assert 0 <= history["dead_features_pct"][0] <= 1
    assert history["l1"][0] == pytest.approx(3.0, abs=0.5)


def test_train_of_a_top_k_sae_makes_a_new_engine(store: LocalStore) -> None:
    """Workaround: training.py calls sae.trainer.train()."""
    sae = TopKSae(n_latents=12, n_inputs=WIDTH)
    engine = sae.sae_engine
    with redirect_stdout(io.StringIO()):
        sae.train(store, "run", "a", TopKSaeTrainingConfig(k=2, use_amp=False), "training")
    assert sae.sae_engine is not engine


def test_a_top_k_sae_is_made_with_k_of_one() -> None:
    """Workaround: SaeClass.build."""
    assert TopKSae(n_latents=12, n_inputs=WIDTH).sae_engine.top_k == 1


def test_the_data_loader_makes_uneven_batches_in_stored_order(store: LocalStore) -> None:
    """Workaround: training_store.py."""
    batches = list(StoreDataloader(store, "run", "a", batch_size=16))
    assert [len(batch) for batch in batches] == [16, 16, 8, 16, 16, 8]
    stored = store.get_detector_metadata_by_layer_by_key("run", 0, "a", "activations").reshape(-1, WIDTH)
    assert torch.equal(batches[0], stored[:16])


def test_the_data_loader_takes_another_layer_in_place_of_a_missing_one(store: LocalStore) -> None:
    """Workaround: storage/rows.py makes a missing tensor a TaskError."""
    batches = list(StoreDataloader(store, "run", "b", batch_size=16))
    other = store.get_detector_metadata_by_layer_by_key("run", 1, "a", "activations").reshape(-1, WIDTH)
    assert torch.equal(torch.cat(batches[3:]), other)


def test_the_concepts_bias_starts_as_ones_and_the_hook_adds_it_to_every_latent() -> None:
    """Workaround: saes/classes.py clears it; hooks.py edits by itself."""
    sae = TopKSae(n_latents=12, n_inputs=WIDTH)
    assert bool((sae.concepts.bias == 1).all())
    x = torch.randn(1, 4, WIDTH)
    with torch.no_grad():
        without = sae.modify_activations(sae.sae_engine, None, x)
        sae.concepts.multiplication.data[0] = 2.0
        latents = sae.encode(x[0])
        edited = sae.modify_activations(sae.sae_engine, None, x)
        everywhere = sae.decode(latents * sae.concepts.multiplication + 1.0)
    torch.testing.assert_close(without[0], sae.decode(latents))
    torch.testing.assert_close(edited[0], everywhere)


def test_the_hook_reports_pre_codes_and_builds_a_dict_of_each_token() -> None:
    """Workaround: hooks.py."""
    sae = TopKSae(n_latents=12, n_inputs=WIDTH)
    with torch.no_grad():
        sae.modify_activations(sae.sae_engine, None, torch.randn(1, 4, WIDTH))
    assert float(sae.tensor_metadata["neurons"].min()) < 0
    assert [len(item["activations"]) for item in sae.metadata["batch_items"]] == [12] * 4


def test_a_detectors_errors_are_swallowed_where_it_is_a_controller_too() -> None:
    """Workaround: hooks.py encodes in modify_activations."""

    class Failing(Controller, Detector):
        def process_activations(self, module: Any, input: Any, output: Any) -> None:
            raise ValueError("lost")

        def modify_activations(self, module: Any, inputs: Any, output: Any) -> None:
            return None

    Failing(hook_id="failing")._hook_fn(torch.nn.Identity(), (torch.zeros(1),), torch.zeros(1))


def test_a_fused_dictionary_survives_new_weights_until_the_mode_changes_twice() -> None:
    """Workaround: sae_classes.place."""
    sae = TopKSae(n_latents=12, n_inputs=WIDTH)
    sae.sae_engine.eval()
    before = sae.sae_engine.get_dictionary()
    other = TopKSae(n_latents=12, n_inputs=WIDTH).sae_engine
    sae.sae_engine.load_state_dict(other.state_dict())
    sae.sae_engine.eval()
    assert torch.equal(sae.sae_engine.get_dictionary(), before)
    place(sae, "cpu")
    torch.testing.assert_close(sae.sae_engine.get_dictionary(), other.get_dictionary())


def test_a_saved_dictionary_is_not_normalized_after_the_last_step() -> None:
    """Workaround: SaeClass.save goes through place(), which normalizes."""
    layer = DictionaryLayer(WIDTH, 12)
    with torch.no_grad():
        layer._weights.mul_(3)
    assert float(layer.state_dict()["_weights"].norm(dim=1).max()) > 1.5


def test_the_pseudo_derivative_of_a_jump_relu_divides_by_the_bandwidth_twice() -> None:
    """Workaround: affine_engine.py has its own.

    By eq. 11 of Rajamanoharan et al. 2024 (Jumping Ahead) it is -threshold / bandwidth for a latent within
    half a bandwidth of the threshold.
    """
    threshold = torch.tensor([0.5], requires_grad=True)
    JumpReLU.apply(torch.tensor([[0.52]]), threshold, rectangle_kernel, 0.1).sum().backward()
    assert threshold.grad is not None
    assert float(threshold.grad) == pytest.approx(-0.5 / 0.1 / 0.1)


def test_the_seams_that_our_trainer_stands_on_are_there() -> None:
    """trainer.py overrides these."""
    assert {"_create_dataloader", "_create_optimizer", "_run_training", "_save_training_to_store"} <= set(
        vars(SaeTrainer)
    )
    parameters = list(inspect.signature(SaeTrainer._run_training).parameters)
    assert parameters[1:6] == ["cfg", "dataloader", "criterion", "optimizer", "device"]
