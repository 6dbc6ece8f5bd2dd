"""What tasks say of themselves: what they are about, and what they need before they begin."""

import pytest

from gql_server.protocol.events import Event
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import Result
from gql_server.protocol.sources import HubDataset, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import (
    CaptureActivations,
    DownloadTexts,
    EvaluateSae,
    ExportSae,
    FindTopNeurons,
    IndexNeurons,
    LoadLanguageModel,
    Task,
    UnloadLanguageModel,
)
from gql_server.protocol.wire import message_classes

LM = LanguageModelSource("lm_1", "HUGGING_FACE", "owner/name", None, "FLOAT32", "/copy")
SAE = SaeSource("sae_1", "TopKSae", "/sae", "layer", 8, 32, 4)
HUB = HubDataset("owner/texts", None, "train", "text", None)
TEXTS = {
    "language_model": LM,
    "dataset_dir": "/texts",
    "hub_dataset": HUB,
    "dataset_kind": "HUGGING_FACE",
    "dataset_description": "owner/texts",
    "sample_offset": 5,
    "max_texts": 100,
}
CAPTURE = {
    "run_id": "run_1",
    "layers": [],
    "batch_size": 1,
    "max_length": 1,
    "dtype": "FLOAT32",
    "store_dir": "",
}


def capture(sample_limit: int | None, **others: object) -> CaptureActivations:
    return CaptureActivations(**(TEXTS | CAPTURE | {"sample_limit": sample_limit} | others))  # type: ignore[arg-type]


def evaluate() -> EvaluateSae:
    own = {"sae": SAE, "dataset_sample_count": None, "sample_limit": 3, "trained_max_length": None}
    return EvaluateSae(**(TEXTS | own))  # type: ignore[arg-type]


def index(language_model: LanguageModelSource | None) -> IndexNeurons:
    return IndexNeurons("index_1", SAE, "run_1", "", "", "", 1, "", language_model=language_model)


@pytest.mark.parametrize(
    ("task", "subject"),
    [
        (LoadLanguageModel(LM), {"language_model": "lm_1"}),
        (UnloadLanguageModel("lm_1"), {"language_model": "lm_1"}),
        (capture(None), {"run": "run_1", "language_model": "lm_1"}),
        (index(LM), {"sae": "sae_1", "run": "run_1"}),
        (evaluate(), {"sae": "sae_1", "language_model": "lm_1"}),
        (ExportSae(SAE, "SAE_LENS", "/path", {}), {"sae": "sae_1"}),
        (FindTopNeurons(LM, SAE, [], 1, False), {"sae": "sae_1", "language_model": "lm_1"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_task_names_what_it_is_about(task: Task, subject: dict[str, str]) -> None:
    assert task.subject() == subject


def test_a_task_names_the_language_model_that_has_to_be_here_first() -> None:
    assert [
        task.language_model_needed() for task in (LoadLanguageModel(LM), capture(None), evaluate(), index(LM))
    ] == [LM] * 4
    assert index(None).language_model_needed() is None
    # Interactive tasks are refused where it is not here.
    assert FindTopNeurons(LM, SAE, [], 1, False).language_model_needed() is None
    assert LoadLanguageModel(LM).asks_hub_anew and not capture(None).asks_hub_anew


def test_a_task_names_the_texts_that_have_to_be_here_first() -> None:
    assert capture(3).texts_needed(9.0) == DownloadTexts(HUB, "/texts", 8, 100, 9.0)
    assert capture(None).texts_needed(9.0) == DownloadTexts(HUB, "/texts", None, 100, 9.0)
    assert evaluate().texts_needed(9.0) == DownloadTexts(HUB, "/texts", 8, 100, 9.0)
    assert capture(3, hub_dataset=None).texts_needed(9.0) is None
    assert index(LM).texts_needed(9.0) is None


def test_the_wire_knows_the_classes_that_are_sent_and_no_others() -> None:
    tasks, results, events = (message_classes(base) for base in (Task, Result, Event))
    assert {LoadLanguageModel, CaptureActivations, DownloadTexts} <= set(tasks)
    assert not any(one.__subclasses__() for one in [*tasks, *results, *events])
    assert Exclusions not in tasks
    names = [one.__name__ for one in [*tasks, *results, *events]]
    assert len(names) == len(set(names)), "the name tells them apart"
