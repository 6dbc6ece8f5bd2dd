"""What stands around texts, prompts to go on from, and tokens that the model has no embedding for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, CanineTokenizer

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.generating.generation import generate
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.prompts import encode_prompts
from gql_server.compute.language_models.text_encoder import make_encoder
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import ContrastNeurons, EvaluateSae, FindTopNeurons, Generate
from gql_server.services.tokenizing import TokenizerFiles, token_counts
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.sae_fixtures import make_sae, sae_source
from tests.support.generation_tasks import generation_task
from tests.support.tiny_tokenizers import save_with, tiny_tokenizer, with_template

from mi_crow.language_model.language_model import LanguageModel

TEXTS = ["A short text.", "", "naïve 😀", "The for statement is used to iterate over a sequence.", "x"]
TEMPLATES = ["<bos> $A", "<bos> $A <eos>", "$A <eos> <eos>", "<pad> <bos> $A <eos> <pad>", "$A"]
PROMPT = "The value of x is"


def generation_of(source: LanguageModelSource, prompts: list[str], **changes: Any) -> Generate:
    return generation_task(source, prompts, 12, **{"seed": 0} | changes)


def generated_ids(lm: LanguageModel, task: Generate) -> list[list[int]]:
    context = RecordingContext()
    generate(task, context, lm, None)
    outputs = [event for event in context.events if isinstance(event, OutputFinished)]
    return [[token.token_id for token in output.tokens] for output in outputs]


# ------------------------------------------------------------------------- around a text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("max_length", [5, 8, 300])
def test_texts_get_the_ids_that_transformers_gives_them(
    tiny_model_dir: Path, template: str, max_length: int
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), template)
    found = make_encoder(tokenizer).encode(TEXTS, max_length)
    expected = tokenizer(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert [ids.tolist() for ids in found] == expected


@pytest.mark.parametrize("tokenizer", [ByT5Tokenizer(), CanineTokenizer()], ids=["ByT5", "Canine"])
@pytest.mark.parametrize("max_length", [5, 300])
def test_so_do_they_with_tokenizers_that_are_not_fast(tokenizer: Any, max_length: int) -> None:
    found = make_encoder(tokenizer).encode(TEXTS, max_length)
    expected = tokenizer(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert [ids.tolist() for ids in found] == expected


def test_a_text_that_begins_with_the_bos_gets_no_second_one(tiny_model_dir: Path) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "<bos> $A <eos>")
    once, twice = make_encoder(tokenizer).encode(["a text", "<bos>a text"], 20)
    assert once.tolist() == twice.tolist() == tokenizer("a text")["input_ids"]
    cut = make_encoder(tokenizer).encode(["<bos>" + "a text " * 9], 6)[0].tolist()
    assert len(cut) == 6 and cut[0] == 0 and cut[1] != 0 and cut[-1] == tokenizer.eos_token_id


# ------------------------------------------------------------------ prompts to go on from


@pytest.mark.parametrize("template", ["<bos> $A <eos>", "<bos> $A <eos> <eos>", "<bos> $A <pad>"])
def test_a_prompt_is_continued_as_if_the_tokenizer_put_nothing_behind_it(
    tiny_model_dir: Path,
    tiny_source: LanguageModelSource,
    language_models: LanguageModels,
    tmp_path: Path,
    template: str,
) -> None:
    source = save_with(
        with_template(tiny_tokenizer(tiny_model_dir), template), tiny_model_dir, tmp_path / "m"
    )
    prompts = [PROMPT, "a string is not None"]
    lm = language_models.get(source)
    assert lm.tokenizer(PROMPT)["input_ids"][-1] in lm.tokenizer.all_special_ids
    expected = generated_ids(language_models.get(tiny_source), generation_of(tiny_source, prompts))
    assert generated_ids(lm, generation_of(source, prompts)) == expected
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    ids = AutoTokenizer.from_pretrained(tiny_model_dir)(PROMPT, return_tensors="pt")["input_ids"]
    bare = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    assert expected[0] == [token for token in bare if token != lm.tokenizer.eos_token_id]


def test_an_eos_that_somebody_typed_or_a_chat_template_wrote_stays(
    tiny_model_dir: Path, language_models: LanguageModels, tmp_path: Path
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "<bos> $A <eos>")
    lm = language_models.get(save_with(tokenizer, tiny_model_dir, tmp_path / "m"))
    typed, plain = encode_prompts(lm, ["a<eos>", "a"])
    assert [token.text for token in typed.tokens] == ["<bos>", "a", "<eos>"]
    assert [token.text for token in plain.tokens] == ["<bos>", "a"]
    (chat,) = encode_prompts(lm, ["a"], ["a<eos>"])
    assert [token.text for token in chat.tokens] == ["a", "<eos>"]


def test_the_tokens_of_top_neurons_end_with_the_prompt_and_a_capture_keeps_the_eos(
    tiny_model_dir: Path, language_models: LanguageModels, recording_context: RecordingContext, tmp_path: Path
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "<bos> $A <eos>")
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m")
    lm = language_models.get(source)
    sae = make_sae(lm)
    task = FindTopNeurons(source, sae_source(), [PROMPT], 5, True)
    (found,) = find_top_neurons(task, recording_context, lm, sae).prompts
    assert [token.token_id for token in found.tokens] == tokenizer(PROMPT)["input_ids"][:-1]
    assert len(found.per_token) == len(found.tokens)
    capture_activations(capture_task(source, tmp_path, [PROMPT]), recording_context, language_models)
    stored = ActivationStore(tmp_path / "store").read_input_ids("run_a", 0)
    assert stored.tolist() == [tokenizer(PROMPT)["input_ids"]]


def test_the_server_counts_a_prompts_tokens_as_the_worker_makes_them(
    tiny_model_dir: Path, language_models: LanguageModels, tmp_path: Path
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "<bos> $A <eos> <eos>")
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m")
    prompts = [PROMPT, "<bos>" + PROMPT, "naïve 😀"]
    encoded = encode_prompts(language_models.get(source), prompts)
    counts = token_counts(TokenizerFiles(Path(source.copy_dir)), prompts)
    assert counts == [len(prompt.tokens) for prompt in encoded]


# ------------------------------------------------------------------- ids beyond the embedding


@pytest.fixture
def padded_source(tiny_model_dir: Path, tmp_path: Path) -> LanguageModelSource:
    """Give the tiny model with a [PAD] that was added to the tokenizer alone: its ID is 600 of 600."""
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 600
    return save_with(tokenizer, tiny_model_dir, tmp_path / "padded")


def test_a_capture_pads_with_an_id_that_the_model_knows(
    padded_source: LanguageModelSource,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    texts = ["A short text.", "A longer text, by some words, so that the other one is padded."]
    task = capture_task(padded_source, tmp_path, texts)
    result = capture_activations(task, recording_context, language_models)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    store = ActivationStore(tmp_path / "store")
    mask = store.read_mask("run_a", 0)
    found = store.read_activations("run_a", 0, task.layers[0])
    assert result.token_count == int(mask.sum())
    for place, text in enumerate(texts[::-1]):
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=24)["input_ids"]
        with torch.inference_mode():
            expected = model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
        torch.testing.assert_close(found[place][mask[place]], expected, rtol=1e-4, atol=1e-4)


def test_a_prompt_or_text_with_such_a_token_is_refused_by_its_number(
    padded_source: LanguageModelSource,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    lm = language_models.get(padded_source)
    sae = make_sae(lm)
    source, texts = sae_source(), ["fine", "a [PAD] in it"]
    write_texts(tmp_path / "kept", texts)
    evaluation = EvaluateSae(
        sae=source,
        language_model=padded_source,
        dataset_dir=str(tmp_path / "kept"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description="",
        dataset_sample_count=2,
        sample_offset=0,
        sample_limit=2,
        trained_max_length=None,
        max_texts=2,
    )
    capture = capture_task(padded_source, tmp_path, texts)
    attempts: list[tuple[tuple[str, ...], Callable[[RecordingContext], object]]] = [
        (("prompts", "1"), lambda c: generate(generation_of(padded_source, texts), c, lm, None)),
        (
            ("prompts", "1"),
            lambda c: find_top_neurons(FindTopNeurons(padded_source, source, texts, 3, False), c, lm, sae),
        ),
        (
            ("textsB", "1"),
            lambda c: contrast_neurons(ContrastNeurons(padded_source, source, ["a"], texts, 3), c, lm, sae),
        ),
        (("dataset",), lambda c: capture_activations(capture, c, language_models)),
        (("dataset",), lambda c: evaluate_sae(evaluation, c, lm, sae)),
    ]
    for path, attempt in attempts:
        with pytest.raises(
            TaskError, match=r"(Prompt|Text) 1 .*'\[PAD\]' with the ID 600.* 0 to 599"
        ) as raised:
            attempt(recording_context)
        assert (raised.value.code, tuple(raised.value.path)) == ("INVALID", path)


def test_no_token_is_generated_that_could_not_be_fed_again(
    language_models: LanguageModels, tiny_source: LanguageModelSource
) -> None:
    lm = language_models.get(tiny_source)
    task = generation_of(tiny_source, [PROMPT], temperature=1.0, top_log_probabilities=3)
    expected = generated_ids(lm, task)
    head: Any = lm.model.lm_head
    larger = torch.nn.Linear(head.in_features, 640, bias=False)
    with torch.no_grad():
        larger.weight[:600] = head.weight
        larger.weight[600:] = 100 * torch.randn(
            40, head.in_features, generator=torch.Generator().manual_seed(1)
        )
    lm.model.lm_head = larger
    assert generated_ids(lm, task) == expected
