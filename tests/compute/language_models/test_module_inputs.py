"""What modules read, as layers: against TransformerLens' definitions by hand, and hooks of torch's own."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.indexing.direct_effects import direct_effects
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.layers import depth_order, describe_layers, is_head
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.module_inputs import ModuleInput, add_inputs
from gql_server.compute.language_models.unembedding import NoUnembedding, find_unembedding
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.hooks import Mode, SaeHook, attached
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.formats.sae_sources.places import Places
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import EvaluateSae, FindTopNeurons, IndexNeurons
from tests.compute import architectures
from tests.compute.architectures import make_architecture
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.layer_families import make_family
from tests.support.training import training_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae
from mi_crow.store.local_store import LocalStore

IDS = [0, 50, 60, 70, 80, 90, 100, 7]
N_LATENTS = 40
HEADS_WIDTH = 48
"""Of 2 heads of 24, beside 32 of the residual stream: as in Gemma 2, the two differ."""
TEXTS = [
    "The for statement is used to iterate over the elements of a sequence.",
    "Strings are sequences of characters.",
    "naïve 😀 text",
]
GEMMA_Z = "gemma2forcausallm_model_layers_1_self_attn_o_proj.input"


@pytest.fixture
def gemma(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> tuple[LanguageModel, LanguageModelSource, Any]:
    """Give a Gemma 2 whose heads together are wider than its stream, and the bare model."""
    name, config = architectures.CONFIGS["Gemma2ForCausalLM"]
    monkeypatch.setitem(architectures.CONFIGS, "Gemma2ForCausalLM", (name, config | {"head_dim": 24}))
    source = make_architecture("Gemma2ForCausalLM", tiny_model_dir, tmp_path)
    bare = AutoModelForCausalLM.from_pretrained(source.location, attn_implementation="eager").eval()
    return LanguageModels(device="cpu").get(source), source, bare


def rows_of(lm: LanguageModel) -> list[dict[str, Any]]:
    """Describe layers as a language model's row does."""
    return [msgspec.to_builtins(layer) for layer in describe_layers(lm)]


def outputs_of(lm: LanguageModel, layers: list[str]) -> dict[str, Tensor]:
    """Return what layers are [n_tokens, width] on the tokens, with torch's own hooks on them."""
    caught: dict[str, Tensor] = {}

    def catch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            caught[name] = (output[0] if isinstance(output, tuple) else output)[0].clone()

        return hook

    handles = [lm.layers.name_to_layer[name].register_forward_hook(catch(name)) for name in layers]
    with torch.inference_mode():
        lm.model(torch.tensor([IDS]))
    for handle in handles:
        handle.remove()
    return caught


def gemma_2_by_hand(model: Any, ids: list[int]) -> tuple[dict[str, Tensor], Tensor]:
    """Compute Gemma 2 from its weights, with TransformerLens' names for what comes by; and its logits."""
    config, weights = model.config, {name: value.double() for name, value in model.state_dict().items()}
    n_heads, size, n_tokens = config.num_attention_heads, config.head_dim, len(ids)

    def normed(x: Tensor, gain: Tensor) -> Tensor:
        scaled: Tensor = x / (x.square().mean(dim=-1, keepdim=True) + config.rms_norm_eps).sqrt() * (1 + gain)
        return scaled

    angles = torch.arange(n_tokens).double()[:, None] * 10000.0 ** (-torch.arange(0, size, 2).double() / size)
    cos, sin = (torch.cat([part, part], dim=1) for part in (angles.cos(), angles.sin()))

    def turned(x: Tensor) -> Tensor:
        half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], dim=-1)
        return x * cos + half * sin

    later = torch.ones(n_tokens, n_tokens).triu(1).bool()
    found: dict[str, Tensor] = {}
    x = weights["model.embed_tokens.weight"][ids] * config.hidden_size**0.5
    for block in range(config.num_hidden_layers):
        w = {
            name.removeprefix(f"model.layers.{block}.").removesuffix(".weight"): value
            for name, value in weights.items()
            if name.startswith(f"model.layers.{block}.")
        }
        kept = {"hook_resid_pre": x}
        read = normed(x, w["input_layernorm"])
        q, k, v = (
            (read @ w[f"self_attn.{which}_proj"].T).view(n_tokens, n_heads, size).transpose(0, 1)
            for which in "qkv"
        )
        scores = turned(q) @ turned(k).transpose(1, 2) * config.query_pre_attn_scalar**-0.5
        scores = (scores / config.attn_logit_softcapping).tanh() * config.attn_logit_softcapping
        z = scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
        kept["attn.hook_z"] = z.transpose(0, 1).reshape(n_tokens, -1)
        kept["hook_attn_out"] = normed(
            kept["attn.hook_z"] @ w["self_attn.o_proj"].T, w["post_attention_layernorm"]
        )
        kept["hook_resid_mid"] = x + kept["hook_attn_out"]
        kept["mlp.hook_in"] = normed(kept["hook_resid_mid"], w["pre_feedforward_layernorm"])
        gate = kept["mlp.hook_in"] @ w["mlp.gate_proj"].T
        kept["mlp.hook_post"] = nn.functional.gelu(gate, approximate="tanh") * (
            kept["mlp.hook_in"] @ w["mlp.up_proj"].T
        )
        kept["hook_mlp_out"] = normed(
            kept["mlp.hook_post"] @ w["mlp.down_proj"].T, w["post_feedforward_layernorm"]
        )
        x = kept["hook_resid_post"] = kept["hook_resid_mid"] + kept["hook_mlp_out"]
        found |= {f"blocks.{block}.{name}": value for name, value in kept.items()}
    logits = normed(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T
    return found, (logits / config.final_logit_softcapping).tanh() * config.final_logit_softcapping


def test_each_place_of_a_gemma_2_is_what_transformer_lens_means(gemma: Any) -> None:
    lm, _, bare = gemma
    by_hand, logits = gemma_2_by_hand(bare, IDS)
    with torch.inference_mode():
        found_logits = lm.model(torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(found_logits.double(), logits, atol=1e-4, rtol=1e-4)
    places = Places(rows_of(lm))
    layers = {name: places.layer_of(name) for name in by_hand}
    assert None not in layers.values()
    found = outputs_of(lm, sorted(set(map(str, layers.values()))))
    for name, expected in by_hand.items():
        values = found[str(layers[name])].double()
        assert values.shape == expected.shape, name
        assert float((values - expected).abs().max()) < 1e-5, name


@pytest.mark.parametrize(
    ("scope", "hook"),
    [
        ("model.layers.1.output", "blocks.1.hook_resid_post"),
        ("model.layers.1.post_feedforward_layernorm.output", "blocks.1.hook_mlp_out"),
        ("model.layers.1.self_attn.o_proj.input", "blocks.1.attn.hook_z"),
        ("model.layers.1.post_attention_layernorm.output", "blocks.1.hook_attn_out"),
        ("model.layers.1.pre_feedforward_layernorm.output", "blocks.1.mlp.hook_in"),
        ("model.layers.1.pre_feedforward_layernorm.output", "blocks.1.hook_mlp_in"),
        ("model.layers.1.pre_feedforward_layernorm.input", "blocks.1.hook_resid_mid"),
        ("model.layers.1.mlp.down_proj.input", "blocks.1.mlp.hook_post"),
        ("model.layers.1.input", "blocks.1.hook_resid_pre"),
        ("model.layers.0.input", "blocks.0.hook_resid_pre"),
    ],
)
def test_the_places_of_gemma_scope_are_those_of_transformer_lens(gemma: Any, scope: str, hook: str) -> None:
    places = Places(rows_of(gemma[0]))
    assert places.layer_of(scope) == places.layer_of(hook) is not None


def test_what_modules_read_is_described_with_its_width(gemma: Any) -> None:
    lm = gemma[0]
    found = {layer.name: layer for layer in describe_layers(lm)}
    z, block = found[GEMMA_Z], found["gemma2forcausallm_model_layers_0.input"]
    assert (z.kind, z.depth, z.module_class, z.width) == ("INPUT", 1, "Linear", HEADS_WIDTH)
    assert (block.depth, block.module_class, block.width) == (0, "Gemma2DecoderLayer", 32)
    assert [layer.name for layer in found.values() if layer.kind == "INPUT" and layer.depth == 1] == [
        GEMMA_Z,
        "gemma2forcausallm_model_layers_1_mlp_down_proj.input",
        "gemma2forcausallm_model_layers_1_pre_feedforward_layernorm.input",
    ]
    assert not is_head(lm, GEMMA_Z)
    projection = GEMMA_Z.removesuffix(".input")
    assert depth_order(lm, [projection, GEMMA_Z]) == [GEMMA_Z, projection]


HOOKS: dict[str, dict[str, str | None]] = {
    "LlamaForCausalLM": {
        "blocks.0.hook_resid_pre": "model_layers_0.input",
        "blocks.1.hook_resid_pre": "model_layers_0",
        "blocks.1.attn.hook_z": "model_layers_1_self_attn_o_proj.input",
        "blocks.1.hook_attn_out": "model_layers_1_self_attn",
        "blocks.1.hook_resid_mid": "model_layers_1_post_attention_layernorm.input",
        "blocks.1.mlp.hook_in": "model_layers_1_post_attention_layernorm",
        "blocks.1.mlp.hook_post": "model_layers_1_mlp_down_proj.input",
        "blocks.1.hook_mlp_out": "model_layers_1_mlp",
        "blocks.1.ln2.hook_normalized": None,
        "model.layers.1.self_attn.o_proj.input": "model_layers_1_self_attn_o_proj.input",
        "model.layers.1.self_attn.q_proj.input": None,
        "model.layers.7.output": None,
        "hook_embed": "model_embed_tokens",
    },
    "GPT2LMHeadModel": {
        "blocks.0.hook_resid_pre": "transformer_h_0.input",
        "blocks.0.attn.hook_z": "transformer_h_0_attn_c_proj.input",
        "blocks.0.hook_attn_out": "transformer_h_0_attn",
        "blocks.0.hook_resid_mid": "transformer_h_0_ln_2.input",
        "blocks.0.hook_mlp_in": None,
        "blocks.0.mlp.hook_in": "transformer_h_0_ln_2",
        "blocks.0.mlp.hook_post": "transformer_h_0_mlp_c_proj.input",
        "transformer.h.0.attn.c_proj.input": "transformer_h_0_attn_c_proj.input",
        "h.0.mlp.input": "transformer_h_0_ln_2",
        "hook_embed": "transformer_wte",
    },
    "OPTForCausalLM": {
        "blocks.1.attn.hook_z": "model_decoder_layers_1_self_attn_out_proj.input",
        "blocks.1.mlp.hook_post": "model_decoder_layers_1_fc2.input",
        "blocks.1.hook_mlp_out": "model_decoder_layers_1_fc2",
        "blocks.1.hook_resid_mid": "model_decoder_layers_1_final_layer_norm.input",
    },
    "CohereForCausalLM": {
        "blocks.0.attn.hook_z": "model_layers_0_self_attn_o_proj.input",
        "blocks.0.hook_resid_mid": None,
        "blocks.0.mlp.hook_in": None,
    },
}


@pytest.mark.parametrize("name", HOOKS)
def test_names_are_mapped_both_ways(
    name: str, tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels
) -> None:
    lm = language_models.get(make_architecture(name, tiny_model_dir, tmp_path))
    places = Places(rows_of(lm))
    hooks = places.hooks()
    for place_name, layer in HOOKS[name].items():
        expected = layer and f"{name.lower()}_{layer}"
        assert places.layer_of(place_name) == expected, place_name
        is_second_name = place_name.endswith(("1.hook_resid_pre", "hook_in"))
        if expected is not None and place_name.startswith("blocks.") and not is_second_name:
            assert hooks[expected] == place_name


def test_pythia_whose_attention_and_mlp_read_the_same_stream_has_none_between_them(
    language_models: LanguageModels, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    monkeypatch.setitem(architectures.CONFIGS, "GPTNeoXForCausalLM", ("GPTNeoXConfig", sizes))
    lm = language_models.get(make_architecture("GPTNeoXForCausalLM", tiny_model_dir, tmp_path))
    assert lm.model.config.use_parallel_residual
    places = Places(rows_of(lm))
    assert places.layer_of("blocks.0.hook_resid_mid") is None
    prefix = "gptneoxforcausallm_gpt_neox_layers_1"
    assert places.layer_of("blocks.1.attn.hook_z") == f"{prefix}_attention_dense.input"
    assert places.layer_of("blocks.1.mlp.hook_post") == f"{prefix}_mlp_dense_4h_to_h.input"


def test_of_a_mixture_of_experts_only_what_all_tokens_go_through_is_a_layer(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Its gate runs after the projection of the expert that all share."""
    name = "Qwen3NextForCausalLM"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    lm = LanguageModel(make_family(name), tokenizer, LocalStore(str(tmp_path)), device="cpu")
    add_inputs(lm)
    places, prefix = Places(rows_of(lm)), f"{name.lower()}_model_layers_0_"
    found = [layer.name for layer in describe_layers(lm) if layer.kind == "INPUT" and layer.depth == 0]
    assert [one.removeprefix(prefix) for one in found[1:]] == [
        "linear_attn_out_proj.input",
        "mlp_shared_expert_down_proj.input",
        "post_attention_layernorm.input",
    ]
    assert places.layer_of("blocks.0.mlp.hook_post") is None
    assert places.layer_of("model.layers.0.mlp.shared_expert.down_proj.input") == found[2]
    assert {name for name in lm.layers.name_to_layer if name.endswith(".input")} == {
        layer.name for layer in describe_layers(lm) if layer.kind == "INPUT"
    }


def test_what_gives_no_vector_for_each_token_is_no_layer(tiny_model_dir: Path, tmp_path: Path) -> None:
    """XLNet's modules have positions before texts."""
    lm = LanguageModels(device="cpu").get(make_architecture("XLNetLMHeadModel", tiny_model_dir, tmp_path))
    assert not [name for name in lm.layers.name_to_layer if name.endswith(".input")]
    assert not any(module._forward_pre_hooks for module in lm.model.modules())


# ------------------------------------------------------------------------------- steering


def made(width: int, name: str = "ReLUSae") -> Sae:
    torch.manual_seed(1)
    sae = SaeClasses().get(name).build(N_LATENTS, width, 4, "cpu")
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    sae.sae_engine.eval()
    return sae


def edited(sae: Sae, rows: Tensor, mode: Mode) -> Tensor:
    """Return what stands in the rows' place where neuron 7 is halved and 3 added to it."""
    latents = sae.encode(rows)
    changed = latents.clone()
    changed[:, 7] = latents[:, 7] * 0.5 + 3.0
    decoded: Tensor = sae.decode(changed)
    return decoded if mode == "RECONSTRUCTION" else rows + decoded - sae.decode(latents)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
@pytest.mark.parametrize("name", ["Gemma2ForCausalLM", "GPT2LMHeadModel", "OPTForCausalLM"])
def test_steering_changes_what_the_projection_reads(
    name: str, mode: Mode, tiny_model_dir: Path, tmp_path: Path
) -> None:
    source = make_architecture(name, tiny_model_dir, tmp_path)
    lm, bare = LanguageModels(device="cpu").get(source), AutoModelForCausalLM.from_pretrained(source.location)
    module = {
        "Gemma2ForCausalLM": "model.layers.0.self_attn.o_proj",
        "GPT2LMHeadModel": "transformer.h.0.attn.c_proj",
        "OPTForCausalLM": "model.decoder.layers.0.fc2",
    }[name]
    layer = f"{name.lower()}_{module.replace('.', '_')}.input"
    sae = made(int(next(one.width or 0 for one in describe_layers(lm) if one.name == layer)))

    def change(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows = args[0].reshape(-1, args[0].shape[-1])
        return (edited(sae, rows, mode).reshape(args[0].shape),)

    bare.eval().get_submodule(module).register_forward_pre_hook(change)
    with torch.inference_mode():
        expected, before = bare(torch.tensor([IDS])).logits, lm.model(torch.tensor([IDS])).logits
        with attached(lm, layer, SaeHook(sae, mode, [Edit(7, 0.5, 3.0)])):
            found = lm.model(torch.tensor([IDS])).logits
        after = lm.model(torch.tensor([IDS])).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)
    assert torch.equal(after, before)
    assert not any(one._forward_pre_hooks or one._forward_hooks for one in lm.model.modules())


def test_steering_between_attention_and_mlp_changes_the_stream_itself(gemma: Any) -> None:
    lm, _, bare = gemma
    sae, layer = made(32), str(Places(rows_of(lm)).layer_of("blocks.0.hook_resid_mid"))
    block = bare.model.layers[0]
    mids: list[Tensor] = []

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mids.append(args[0].clone())
        return (edited(sae, args[0][0], "ERROR_PRESERVING")[None],)

    def after_block(module: nn.Module, args: Any, output: Any) -> Any:
        # The block has added the MLP's output to the stream as it was.
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden - mids[0] + edited(sae, mids[0][0], "ERROR_PRESERVING")[None]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    block.pre_feedforward_layernorm.register_forward_pre_hook(before_norm)
    block.register_forward_hook(after_block)
    with torch.inference_mode():
        expected = bare(torch.tensor([IDS])).logits
        with attached(lm, layer, SaeHook(sae, "ERROR_PRESERVING", [Edit(7, 0.5, 3.0)])):
            found = lm.model(torch.tensor([IDS])).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# ----------------------------------------------------------------------------- everything


def test_an_sae_on_what_a_projection_reads_goes_through_all_that_stands(gemma: Any, tmp_path: Path) -> None:
    lm, source, bare = gemma
    models = LanguageModels(device="cpu")
    task = capture_task(source, tmp_path, TEXTS, batch_size=3, layers=[GEMMA_Z])
    capture_activations(task, RecordingContext(), models)
    store = ActivationStore(tmp_path / "store")
    rows = store.read_masked("run_a", 0, GEMMA_Z)

    read: list[Tensor] = []
    projection = bare.model.layers[1].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda _, args: read.append(args[0][0]))
    encoded = [lm.tokenizer(text, truncation=True, max_length=24)["input_ids"] for text in TEXTS]
    with torch.inference_mode():
        # A run has the longest texts first.
        for ids in sorted(encoded, key=len, reverse=True):
            bare(torch.tensor([ids]))
    handle.remove()
    by_hand = torch.cat([one[1:] for one in read])  # No <bos>.
    torch.testing.assert_close(rows, by_hand, atol=1e-5, rtol=1e-5)

    trained = training_task(
        tmp_path, sae_class="BatchTopKSae", k=4, n_latents=64, epochs=4, sae_dir=str(tmp_path / "sae")
    )
    trained = msgspec.structs.replace(trained, layer=GEMMA_Z)
    train_sae(trained, RecordingContext(), SaeClasses())
    at = SaeSource("sae_1", "BatchTopKSae", str(tmp_path / "sae"), GEMMA_Z, HEADS_WIDTH, 64, 4)
    sae = Saes(SaeClasses()).get(at)
    with torch.no_grad():
        latents, reconstruction = sae.encode(by_hand), sae.decode(sae.encode(by_hand))

    index = IndexNeurons(
        index_id="idx_1",
        sae=at,
        run_id="run_a",
        store_dir=str(tmp_path / "store"),
        dataset_dir=str(tmp_path / "datasets" / "run_a"),
        tokenizer_dir=source.copy_dir,
        top_texts_per_neuron=2,
        top_texts_path=str(tmp_path / "top.json"),
        language_model=source,
    )
    index_neurons(index, RecordingContext(), sae, store, models)
    kept = load_file(store.index_path("idx_1"))
    np.testing.assert_array_equal(kept["firing_count"], (latents != 0).sum(dim=0).numpy())
    np.testing.assert_allclose(kept["max_activation"], latents.max(dim=0).values.numpy(), rtol=1e-4)

    evaluation = EvaluateSae(
        sae=at,
        language_model=source,
        dataset_dir=str(tmp_path / "datasets" / "run_a"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description="texts",
        dataset_sample_count=len(TEXTS),
        sample_offset=0,
        sample_limit=100,
        trained_max_length=24,
        max_texts=100,
    )
    result = evaluate_sae(evaluation, RecordingContext(), lm, sae)
    assert result.mse == pytest.approx(float((reconstruction - by_hand).square().mean()), rel=1e-4)
    assert result.l0 == pytest.approx(float((latents != 0).double().sum(dim=1).mean()))

    (found,) = find_top_neurons(
        FindTopNeurons(source, at, TEXTS[:1], 3, False), RecordingContext(), lm, sae
    ).prompts
    assert len(encoded[0]) == len(read[0])
    strongest = latents[: len(read[0]) - 1].max(dim=0).values.sort(descending=True).values[:3]
    activations = torch.tensor([neuron.activation for neuron in found.neurons])
    torch.testing.assert_close(activations, strongest[: len(activations)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "place_name"),
    [
        ("LlamaForCausalLM", "blocks.1.attn.hook_z"),
        ("LlamaForCausalLM", "blocks.0.mlp.hook_post"),
        ("GPT2LMHeadModel", "blocks.1.attn.hook_z"),
        ("LlamaForCausalLM", "blocks.1.hook_resid_mid"),
        ("LlamaForCausalLM", "blocks.0.hook_resid_pre"),
    ],
)
def test_promoted_tokens_go_through_the_projections_own_weight(
    name: str, place_name: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    lm = LanguageModels(device="cpu").get(make_architecture(name, tiny_model_dir, tmp_path))
    layer = str(Places(rows_of(lm)).layer_of(place_name))
    width = next(one.width for one in describe_layers(lm) if one.name == layer)
    directions = torch.tensor(np.random.default_rng(1).normal(size=(20, width or 0))).float()
    weights = {key: value.double().numpy() for key, value in lm.model.state_dict().items()}
    seen: Any = directions.double().numpy()
    if name == "GPT2LMHeadModel":
        seen = seen @ weights["transformer.h.1.attn.c_proj.weight"]
        seen = (seen - seen.mean(axis=1, keepdims=True)) * weights["transformer.ln_f.weight"]
        expected = seen @ weights["transformer.wte.weight"].T
    else:
        module = {"attn.hook_z": "1.self_attn.o_proj", "mlp.hook_post": "0.mlp.down_proj"}
        matrix = module.get(place_name.split(".", 2)[2])
        seen = seen if matrix is None else seen @ weights[f"model.layers.{matrix}.weight"].T
        expected = seen * weights["model.norm.weight"] @ weights["lm_head.weight"].T
    expected = expected[:, : len(lm.tokenizer)]
    found = direct_effects(directions, find_unembedding(lm, layer), lambda done, total: None)
    np.testing.assert_allclose(found["effect_limits"][:, 1], expected.max(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found["promoted_tokens"][:, 0], expected.argmax(axis=1))
    np.testing.assert_array_equal(found["suppressed_tokens"][:, 0], expected.argmin(axis=1))


def test_what_goes_through_a_norm_behind_the_projection_promotes_no_tokens_that_can_be_told(
    gemma: Any,
) -> None:
    with pytest.raises(NoUnembedding, match="goes through a norm"):
        find_unembedding(gemma[0], GEMMA_Z)


# ---------------------------------------------------------------------------- the stand-in


class Reader(nn.Module):
    """Reads vectors under a name, after something else."""

    def forward(self, mask: Tensor, *, vectors: Tensor) -> Tensor:
        return vectors * mask


def test_a_stand_in_takes_arguments_by_name_and_leaves_when_it_has_no_hooks() -> None:
    reader, mask, vectors = Reader(), torch.tensor([2]), torch.ones(3)
    stand_in = ModuleInput(reader)
    assert not reader._forward_pre_hooks
    handle = stand_in.register_forward_hook(lambda module, args, output: output + 1)
    assert torch.equal(reader(mask, vectors=vectors), torch.full((3,), 4.0))
    assert torch.equal(vectors, torch.ones(3))
    handle.remove()
    assert torch.equal(reader(mask, vectors=vectors), torch.full((3,), 2.0))
    assert not reader._forward_pre_hooks


def test_a_model_does_not_keep_its_stand_ins() -> None:
    reader = nn.Linear(3, 3)
    stand_in = ModuleInput(reader)
    stand_in.register_forward_hook(lambda module, args, output: output + 1)
    gone = weakref.ref(stand_in)
    gc.disable()
    try:
        del stand_in
        assert gone() is None
    finally:
        gc.enable()
    assert torch.equal(reader(torch.zeros(3)), reader.bias)
