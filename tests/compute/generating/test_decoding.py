"""Several prompts at once, on models that keep a text in many ways, against transformers' ``generate``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating import decoding as decoding_module
from gql_server.compute.generating.batch import Step
from gql_server.compute.generating.batching import go_together
from gql_server.compute.generating.decoding import Decoding
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.hooks import SaeHook
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import Edit
from tests.compute.architectures import make_architecture

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPTS = [[0, 50, 60, 70], [0, *range(80, 101)], [0, 40], [0, 90, 31, 64, 17, 200, 7]]
N_STEPS = 7
ENDS = {0: 1, 3: 4, 1: 5}
"""After which step each prompt's text ends, by its number; the third goes on to the last."""
EDITS = [Edit(3, 1.0, 6.0), Edit(11, 4.0, 0.0)]

BLOCKS = {
    "LlamaForCausalLM": "model.layers.0",
    "Lfm2ForCausalLM": "model.layers.0",
    "Qwen3NextForCausalLM": "model.layers.0",
    "MiniMaxForCausalLM": "model.layers.0",
    "MambaForCausalLM": "backbone.layers.0",
    "RecurrentGemmaForCausalLM": "model.layers.0",
    "RwkvForCausalLM": "rwkv.blocks.0",
    "OpenAIGPTLMHeadModel": "transformer.h.0",
    "BartForCausalLM": "model.decoder.layers.0",
}
"""A block of each architecture."""
ALONE = {
    "RecurrentGemmaForCausalLM",
    "RwkvForCausalLM",
    "MiniMaxForCausalLM",
    "XLNetLMHeadModel",
    "BartForCausalLM",
}
"""Those that see padding: in recurrences without a mask, or because they count positions with it."""


@pytest.fixture(scope="module")
def load(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """Give a function that returns a tiny model of an architecture."""
    models, directory = LanguageModels(device="cpu"), tmp_path_factory.mktemp("architectures")

    def load(name: str) -> LanguageModel:
        if not (directory / name).exists():
            make_architecture(name, tiny_model_dir, directory)
        return models.get(make_source(name))

    def make_source(name: str) -> Any:
        from gql_server.protocol.sources import LanguageModelSource

        place = str(directory / name)
        return LanguageModelSource(f"lm_{name}", "DIRECTORY", place, None, "FLOAT32", f"{place}-copy")

    return load


def generated(lm: LanguageModel, prompt: Sequence[int]) -> tuple[list[int], Tensor]:
    """Return what ``generate`` writes after one prompt, and each token's logits [n_steps, vocabulary]."""
    given = torch.tensor([list(prompt)])
    output: Any = lm.model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=N_STEPS,
        min_new_tokens=N_STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences[0, given.shape[1] :].tolist(), torch.cat(output.logits)


def decoded(decoding: Decoding, texts: Sequence[Sequence[int]]) -> list[list[Step]]:
    """Let prompts go on with given tokens, and end after the steps above; return each one's steps."""
    step, rows = decoding.start(PROMPTS), list(range(len(PROMPTS)))
    found: list[list[Step]] = [[] for _ in PROMPTS]
    for number in range(N_STEPS):
        for row, prompt in enumerate(rows):
            sparse = None if step.sparse is None else step.sparse.of_rows([row])
            found[prompt].append(Step(step.logits[row : row + 1], sparse))
        kept = [row for row, prompt in enumerate(rows) if ENDS.get(prompt, N_STEPS - 1) > number]
        if not kept:
            break
        rows = [rows[row] for row in kept]
        step = decoding.advance(kept, [texts[prompt][number] for prompt in rows])
    return found


def assert_logits(steps: Sequence[Step], expected: Tensor) -> None:
    """Hold a prompt's logits against those expected, as far as it went."""
    logits = torch.cat([step.logits for step in steps])
    torch.testing.assert_close(logits, expected[: len(logits)], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*BLOCKS, "XLNetLMHeadModel"])
def test_prompts_that_end_at_different_times_get_what_generate_gives_each_alone(
    load: Callable[[str], LanguageModel], name: str
) -> None:
    lm = load(name)
    expected = [generated(lm, prompt) for prompt in PROMPTS]
    found = decoded(Decoding(lm, ""), [ids for ids, _ in expected])
    assert [len(steps) for steps in found] == [2, 6, 7, 5]
    for steps, (_, logits) in zip(found, expected, strict=True):
        assert_logits(steps, logits)
    assert go_together(lm) == (name not in ALONE)


@pytest.mark.parametrize(("n_tokens", "first_passes"), [(1, [1, 1, 1, 1]), (14, [1, 1, 2]), (44, [2, 2])])
def test_many_long_prompts_take_their_first_passes_apart_and_get_the_same(
    load: Callable[[str], LanguageModel],
    monkeypatch: pytest.MonkeyPatch,
    n_tokens: int,
    first_passes: list[int],
) -> None:
    monkeypatch.setattr(decoding_module, "TOKENS_OF_A_PASS", n_tokens)
    lm = load("LlamaForCausalLM")
    expected = [generated(lm, prompt) for prompt in PROMPTS]
    sizes: list[int] = []
    sizes_at_checks: list[int] = []
    with noted_batch_sizes(lm, sizes):
        decoding = Decoding(lm, "", (), lambda: sizes_at_checks.append(len(sizes)))
        found = decoded(decoding, [ids for ids, _ in expected])
    for steps, (_, logits) in zip(found, expected, strict=True):
        assert_logits(steps, logits)
    assert sizes[: len(first_passes)] == first_passes
    assert sizes_at_checks[: len(first_passes) - 1] == list(range(1, len(first_passes)))


@pytest.mark.parametrize(
    ("device", "limit"), [("cpu", "TOKENS_OF_A_PASS"), ("cuda", "TOKENS_OF_A_FAST_PASS")]
)
def test_a_long_prompt_among_short_ones_is_not_what_all_are_padded_to(
    load: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch, device: str, limit: str
) -> None:
    monkeypatch.setattr(decoding_module, "model_device", lambda lm: torch.device(device))
    monkeypatch.setattr(decoding_module, limit, 40)
    lm = load("LlamaForCausalLM")
    prompts = [*PROMPTS, [*PROMPTS[0], *range(3, 50)], *PROMPTS]
    assert max(map(len, PROMPTS)) < 40 < len(prompts[4])
    expected = torch.stack([generated(lm, prompt)[1][0] for prompt in prompts])
    passes: list[Sequence[int]] = []
    go_together(lm)
    embedding: Any = lm.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0].shape))
    step = Decoding(lm, "").start(prompts)
    handle.remove()
    torch.testing.assert_close(step.logits, expected, atol=2e-4, rtol=1e-4)
    assert sum(n_rows for n_rows, _ in passes) == len(prompts)
    assert all(n_rows * width <= 40 or n_rows == 1 for n_rows, width in passes)
    assert any(n_rows > 1 for n_rows, _ in passes)


@pytest.mark.parametrize("name", BLOCKS)
def test_steered_prompts_get_what_generate_gives_each_alone_with_a_hook_by_hand(
    load: Callable[[str], LanguageModel], name: str
) -> None:
    lm = load(name)
    sae = small_sae(32)
    module = lm.model.get_submodule(BLOCKS[name])
    layer = layer_name(lm, module)
    expected, latents = [], []
    for prompt in PROMPTS:
        with edited(lm, module, sae) as seen:
            expected.append(generated(lm, prompt))
        latents.append(seen)
    hook = SaeHook(sae, "ERROR_PRESERVING", EDITS)
    found = decoded(Decoding(lm, layer, [hook] * 4), [ids for ids, _ in expected])
    for steps, (_, logits), seen in zip(found, expected, latents, strict=True):
        assert_logits(steps, logits)
        for step, by_hand in zip(steps, seen, strict=False):
            assert step.sparse is not None
            torch.testing.assert_close(step.sparse.dense()[0], by_hand, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Lfm2ForCausalLM", "OpenAIGPTLMHeadModel"])
def test_steering_the_head_edits_each_prompt_as_alone(
    load: Callable[[str], LanguageModel], name: str
) -> None:
    lm = load(name)
    module: Any = lm.model.get_output_embeddings()
    sae = small_sae(module.out_features)
    expected = []
    for prompt in PROMPTS:
        with edited(lm, module, sae):
            expected.append(generated(lm, prompt))
    hook = SaeHook(sae, "ERROR_PRESERVING", EDITS)
    decoding = Decoding(lm, layer_name(lm, module), [hook] * 4)
    for steps, (_, logits) in zip(decoded(decoding, [ids for ids, _ in expected]), expected, strict=True):
        assert_logits(steps, logits)


def test_the_latents_of_the_head_are_those_of_the_whole_prompt(
    load: Callable[[str], LanguageModel],
) -> None:
    lm = load("LlamaForCausalLM")
    module: Any = lm.model.get_output_embeddings()
    sae = small_sae(module.out_features)
    step = Decoding(lm, layer_name(lm, module), [SaeHook(sae)] * 4).start(PROMPTS)
    for (values, places), prompt in zip(step.peaks, PROMPTS, strict=True):
        with torch.inference_mode():
            latents = sae.encode(lm.model(torch.tensor([prompt])).logits[0])
            latents[0] = 0  # <bos>
        torch.testing.assert_close(values, latents.max(dim=0).values, atol=2e-4, rtol=1e-4)
        neuron = int(values.argmax())
        assert places[neuron] == latents[:, neuron].argmax()


def test_rows_that_are_done_leave_the_batch_of_a_plain_model(load: Callable[[str], LanguageModel]) -> None:
    sizes = {name: batch_sizes(load(name)) for name in ("LlamaForCausalLM", "Lfm2ForCausalLM")}
    assert set(sizes.values()) == {(4, 4, 3, 3, 3, 2, 1)}


def batch_sizes(lm: LanguageModel) -> tuple[int, ...]:
    """Return how many rows each pass takes."""
    sizes: list[int] = []
    with noted_batch_sizes(lm, sizes):
        decoded(Decoding(lm, ""), [[50] * N_STEPS] * len(PROMPTS))
    return tuple(sizes)


@contextmanager
def noted_batch_sizes(lm: LanguageModel, sizes: list[int]) -> Iterator[None]:
    """Note how many rows each pass takes while the block runs."""
    go_together(lm)
    embedding: Any = lm.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    try:
        yield
    finally:
        handle.remove()


def test_another_request_between_two_tokens_changes_nothing(load: Callable[[str], LanguageModel]) -> None:
    lm = load("RecurrentGemmaForCausalLM")
    ids, logits = generated(lm, PROMPTS[1])
    decoding = Decoding(lm, "")
    steps = [decoding.start(PROMPTS[1:2])]
    for token_id in ids[:3]:
        with torch.inference_mode():
            lm.model(torch.tensor([[5, 6, 7]]), use_cache=True)
        steps.append(decoding.advance([0], [token_id]))
    assert_logits(steps, logits)


def test_a_layer_whose_rows_are_nobodys_is_a_conflict(load: Callable[[str], LanguageModel]) -> None:
    lm = load("LlamaForCausalLM")
    hook = SaeHook(small_sae(32))
    hook.report_mask = torch.ones(2, 5, dtype=torch.bool)
    for shape in [(2, 4, 32), (3, 5, 32), (5, 2, 32), (7, 32), (2, 5, 3, 32)]:
        with pytest.raises(TaskError, match="whose they are is not known") as caught:
            hook.modify_activations(lm.model, None, torch.randn(shape))
        assert caught.value.code == "CONFLICT"


def test_only_the_texts_own_positions_are_edited() -> None:
    sae = small_sae(32)
    output = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    hook = SaeHook(sae, "RECONSTRUCTION", EDITS)
    hook.report_mask = hook.edit_mask = torch.ones(2, 3, dtype=torch.bool)
    hook.n_after = 1
    changed = hook.modify_activations(nn.Identity(), None, output)
    alone = SaeHook(sae, "RECONSTRUCTION", EDITS).modify_activations(nn.Identity(), None, output[:, 2:5])
    assert changed is not None and alone is not None
    assert torch.equal(changed, torch.cat([output[:, :2], alone, output[:, 5:]], dim=1))


def small_sae(n_inputs: int) -> Sae:
    """Make an SAE with random weights."""
    torch.manual_seed(0)
    sae = SaeClasses().get("TopKSae").build(48, n_inputs, 6, "cpu")
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    return sae


def layer_name(lm: LanguageModel, module: nn.Module) -> str:
    """Return how the server calls a module."""
    return str(next(name for name, known in lm.layers.name_to_layer.items() if known is module))


@contextmanager
def edited(lm: LanguageModel, module: nn.Module, sae: Sae) -> Iterator[list[Tensor]]:
    """Edit a module's output by a torch hook of one's own; gives the latents of each pass's last position."""
    dictionary = sae.sae_engine.get_dictionary()
    special = torch.tensor(sorted(lm.tokenizer.all_special_ids))
    ids: list[Tensor] = []
    seen: list[Tensor] = []

    def note(module: Any, inputs: Any) -> None:
        ids[:] = [inputs[0][0]]

    def edit(module: Any, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        latents = sae.encode(hidden[0])
        seen.append(latents[-1])
        change = 6.0 * dictionary[3] + 3.0 * latents[:, 11:12] * dictionary[11]
        change[torch.isin(ids[0], special)[-len(change) :]] = 0.0
        if isinstance(output, Tensor):
            return hidden + change
        return type(output)((hidden + change, *output[1:]))

    embedding: Any = lm.model.get_input_embeddings()
    handles = [embedding.register_forward_pre_hook(note), module.register_forward_hook(edit)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
