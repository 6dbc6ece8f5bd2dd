"""What is wrong in the libraries, seen at work: a test that fails here says that a workaround can go."""

import inspect
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gql_server.compute import mi_crow_compat
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.worker.context import CancelRequested
from gql_server.protocol.sources import LanguageModelSource

from mi_crow.hooks.implementations.function_controller import FunctionController
from mi_crow.hooks.implementations.layer_activation_detector import LayerActivationDetector
from mi_crow.hooks.implementations.model_input_detector import ModelInputDetector
from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore
from mi_crow.utils import get_logger

SHALLOW = "llamaforcausallm_model_layers_0"
DEEP = "llamaforcausallm_model_layers_1"


@pytest.fixture
def lm(tiny_source: LanguageModelSource, tmp_path: Path) -> LanguageModel:
    lm = LanguageModels(device="cpu").get(tiny_source)
    lm.store = LocalStore(tmp_path / "stock")
    return lm


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )


def has_torchvision() -> bool:
    return run_python("import torchvision.transforms").returncode == 0


def test_overcomplete_cannot_be_imported_without_torchvision() -> None:
    if has_torchvision():
        pytest.skip("torchvision is installed")
    assert "torchvision" in run_python("import overcomplete").stderr


def test_our_import_needs_no_torchvision_and_leaves_no_stand_in() -> None:
    program = "import sys; from gql_server.compute import mi_crow_compat; print('torchvision' in sys.modules)"
    expected = "True\n" if has_torchvision() else "False\n"
    assert run_python(program).stdout == expected


def test_loggers_of_mi_crow_write_to_standard_error_by_themselves() -> None:
    assert isinstance(get_logger("mi_crow.some_module").handlers[0], logging.StreamHandler)
    mi_crow_compat.quieten()
    logger = get_logger("mi_crow.some_module")  # As a trainer does whenever it is made.
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]


def test_of_mi_crows_lines_only_warnings_are_let_through(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("mi_crow.some_module")
    mi_crow_compat.quieten()
    logger.info("so")
    logger.error("oh")
    for end in (CancelRequested(), ZeroDivisionError()):
        try:
            raise end
        except Exception:
            logger.error("a task ended: %s", type(end).__name__)
    assert [record.getMessage() for record in caplog.records] == ["oh", "a task ended: ZeroDivisionError"]


def test_a_deeper_layer_that_is_listed_first_is_not_captured(lm: LanguageModel) -> None:
    lm.activations.save_activations(["one text"], [DEEP, SHALLOW], run_name="r", batch_size=1)
    _, tensors = lm.store.get_detector_metadata("r", 0)
    assert list(tensors) == [SHALLOW]


def test_layers_are_listed_in_another_order_than_they_run(lm: LanguageModel) -> None:
    names = lm.layers.get_layer_names()
    assert names.index(f"{DEEP}_mlp") < names.index(f"{DEEP}_post_attention_layernorm")


def test_storing_masks_adds_a_layer_that_is_none(lm: LanguageModel) -> None:
    lm.activations.save_activations(["one"], [DEEP], run_name="r", batch_size=1, save_attention_mask=True)
    assert "attention_masks" in lm.layers.get_layer_names()


def test_a_batch_is_listed_before_its_tensors_are_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(OSError, match="Failed to save"):
        store.put_detector_metadata("r", 0, {}, {"layer": {"activations": torch.eye(2).to_sparse()}})
    assert store.list_run_batches("r") == [0]


def test_a_run_id_may_lead_out_of_the_store(tmp_path: Path) -> None:
    LocalStore(tmp_path / "store").put_run_batch("../../outside", 0, {"x": torch.ones(1)})
    assert (tmp_path / "outside" / "batch_000000.safetensors").exists()


def test_deleting_a_run_leaves_its_directory(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_run_batch("r", 0, {"x": torch.ones(1)})
    store.delete_run("r")
    assert (tmp_path / "runs" / "r").is_dir()


def test_saving_detectors_saves_somebody_elses_too(lm: LanguageModel) -> None:
    for layer in (SHALLOW, DEEP):
        lm.layers.register_hook(layer, LayerActivationDetector(layer))
    lm.inference.execute_inference(["one text"])
    lm.save_detector_metadata("r", 0)
    assert set(lm.store.get_detector_metadata("r", 0)[1]) == {SHALLOW, DEEP}


def test_a_disabled_input_detector_is_filled_at_any_inference(lm: LanguageModel) -> None:
    detector = ModelInputDetector(layer_signature=DEEP)
    lm.layers.register_hook(DEEP, detector)
    detector.disable()
    lm.inference.execute_inference(["one text"])
    assert detector.get_captured_input_ids() is not None


def test_a_layer_with_a_detector_refuses_a_controller(lm: LanguageModel) -> None:
    lm.layers.register_hook(DEEP, LayerActivationDetector(DEEP))
    with pytest.raises(ValueError, match="Cannot register Controller"):
        lm.layers.register_hook(DEEP, FunctionController(DEEP, lambda tensor: tensor))


def test_a_detector_keeps_the_output_itself_and_does_not_wait_for_cuda() -> None:
    detector, output = LayerActivationDetector(DEEP), torch.ones(1, 2, 3)
    detector.process_activations(torch.nn.Identity(), (), output)
    output.zero_()
    captured = detector.get_captured()
    assert captured is not None
    assert not captured.any()
    assert "non_blocking=True" in inspect.getsource(LayerActivationDetector.process_activations)


def test_inference_autocasts_unless_told_not_to(lm: LanguageModel) -> None:
    assert inspect.signature(lm.inference.execute_inference).parameters["autocast"].default is True


def test_inference_keeps_a_key_value_cache(lm: LanguageModel) -> None:
    caches = []
    handle = lm.layers.name_to_layer[DEEP].register_forward_pre_hook(
        lambda module, inputs, options: caches.append(options["past_key_values"]), with_kwargs=True
    )
    lm.inference.execute_inference(["one text"])
    handle.remove()
    assert caches != [None]


def test_storing_copies_each_tensor_first() -> None:
    assert "tensor.clone()" in inspect.getsource(LocalStore.put_detector_metadata)


def test_a_tokenizer_without_padding_gets_a_new_token_and_the_model_a_new_row(lm: LanguageModel) -> None:
    lm.tokenizer.eos_token = lm.tokenizer.pad_token = None
    lm.tokenize(["one text"], padding=True)
    assert lm.model.get_input_embeddings().weight.shape[0] == 601
