"""The benchmarks of capturing and of memory give whole rows, on a tiny model; no time is looked at."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import capture, memory
from benchmarks.captures import Silent, block, capture_of
from gql_server.artifacts.datasets import write_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.sources import LanguageModelSource
from tests.support.tiny_model import make_tiny_model

N_TEXTS = 30


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelSource:
    """Give a tiny model as wide as SmolLM2."""
    directory = make_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=memory.WIDTH)
    copy = str(tmp_path_factory.mktemp("copy"))
    return LanguageModelSource("lm_tiny", "DIRECTORY", str(directory), None, "FLOAT32", copy)


def test_a_capture_is_held_against_the_bare_pass_and_mi_crow(
    source: LanguageModelSource, tmp_path: Path
) -> None:
    bare, stock = capture.compare(source, 0, tmp_path, memory.texts(N_TEXTS), n_rounds=1)
    assert bare.ours == stock.ours and bare.ours.endswith(")")
    assert bare.goal == "≥ 0.9 ×" and bare.reached is not None
    assert stock.goal == "" and stock.reached is None
    assert bare.precision == stock.precision == "float32: model and store"


def test_the_bare_pass_is_the_captures_own_and_ends_at_its_layer(
    source: LanguageModelSource, tmp_path: Path
) -> None:
    write_texts(tmp_path / "texts", memory.texts(N_TEXTS))
    language_models = LanguageModels(device="cpu")
    task = capture_of(source, block(0), tmp_path)
    result = capture_activations(task, Silent(), language_models)
    lm = language_models.get(source)
    forward_passes = capture.prepared(lm, task)
    assert sum(int(mask.sum()) for _, mask in forward_passes) == result.token_count + N_TEXTS  # <bos>.
    blocks: Any = lm.model.model.layers
    input_ids, mask = forward_passes[0]
    with capture.without_later_blocks(lm, 0) as base, torch.inference_mode():
        found = base(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
    assert lm.model.model.layers is blocks
    stored = ActivationStore(Path(task.store_dir)).read_activations(task.run_id, 0, block(0))
    assert torch.allclose(found[0, : stored.shape[1]], stored[0], atol=1e-5)


def test_each_task_is_measured(source: LanguageModelSource, tmp_path: Path) -> None:
    orders = memory.orders(source, tmp_path / "once", N_TEXTS, N_TEXTS)
    peaks = {name: memory.peak_of(order) / 1e6 for name, order in orders.items()}
    assert len(peaks) == 4 and min(peaks.values()) > 50
    row = memory.row("an index", N_TEXTS, 100.0, 121.0)
    assert (row.measured, row.goal, row.reached) == ("1.21 ×", "≤ 1.2 ×", False)


def test_a_process_of_its_own_tells_its_peak(source: LanguageModelSource, tmp_path: Path) -> None:
    order = memory.orders(source, tmp_path / "once", N_TEXTS, N_TEXTS)["a capture of a JSON Lines file"]
    assert memory.in_a_process_of_its_own(order, tmp_path / "once") > 50
