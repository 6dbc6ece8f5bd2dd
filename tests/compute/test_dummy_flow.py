"""The training and inference flows with a class that is not ours, and with a store in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gql_server.compute.generating.generation import generate
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.training.training import train_sae
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import FindTopNeurons
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.compute.memory_store import MemoryStore
from tests.compute.sae_fixtures import LAYER, layer_output
from tests.support.generation_tasks import generation_task
from tests.support.training import training_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

CLASSES = SaeClasses({"DummySae": DummySae})
TEXTS = ["a string of words", "numbers and names, lists and tuples", "for each element of a sequence"]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    """Give the tiny model."""
    return language_models.get(tiny_source)


@pytest.fixture
def source(lm: LanguageModel, tmp_path: Path, recording_context: RecordingContext) -> SaeSource:
    """Train a dummy SAE on the tiny model's own activations, which lie in memory alone."""
    store = MemoryStore()
    for batch, text in enumerate(TEXTS * 4):
        ids = lm.tokenizer(text)["input_ids"]
        mask = torch.tensor([[token not in lm.tokenizer.all_special_ids for token in ids]])
        tensors = {
            LAYER: {"activations": layer_output(lm, ids)[None]},
            "attention_masks": {"attention_mask": mask, "input_ids": torch.tensor([ids])},
        }
        store.put_detector_metadata("run_a", batch, {}, tensors)
    task = training_task(tmp_path, sae_class="DummySae", k=None, n_latents=40, batch_size=16, epochs=4)
    result = train_sae(task, recording_context, CLASSES, store)
    assert not (tmp_path / "store").exists()
    return SaeSource("sae_1", "DummySae", task.sae_dir, LAYER, result.n_inputs, 40, None)


def test_a_foreign_sae_is_looked_at_through_its_own_encode(
    source: SaeSource,
    lm: LanguageModel,
    tiny_source: LanguageModelSource,
    recording_context: RecordingContext,
) -> None:
    sae: Sae = Saes(CLASSES).get(source)
    found = find_top_neurons(FindTopNeurons(tiny_source, source, TEXTS, 3, False), recording_context, lm, sae)
    for text, prompt in zip(TEXTS, found.prompts, strict=True):
        ids = lm.tokenizer(text)["input_ids"]
        latents = DummySae.load(Path(source.directory) / "sae.pt").encode(layer_output(lm, ids))[
            1:
        ]  # No <bos>.
        expected = latents.max(dim=0).values.topk(3)
        assert [neuron.neuron_index for neuron in prompt.neurons] == expected.indices.tolist()
        torch.testing.assert_close(torch.tensor([n.activation for n in prompt.neurons]), expected.values)


def test_a_foreign_sae_steers_by_its_own_decode_and_only_where_asked(
    source: SaeSource, lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    def tokens(edits: list[Edit] | None) -> list[Any]:
        context = RecordingContext()
        task = generation_task(tiny_source, TEXTS, 6, sae=source, edits=edits)
        generate(task, context, lm, Saes(CLASSES).get(source))
        outputs = [event for event in context.events if isinstance(event, OutputFinished)]
        return [[(t.token_id, t.log_probability) for t in output.tokens] for output in outputs]

    baseline = tokens(None)
    assert tokens([Edit(3, 1.0, 0.0)]) == baseline
    assert tokens([Edit(3, 1.0, 200.0)]) != baseline
    assert tokens(None) == baseline
