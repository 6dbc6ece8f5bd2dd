"""Directories that are no whole language models are told from their files, without torch."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from gql_server.model_files.directories import problem_of_directory


@pytest.fixture
def directory(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


def shard(directory: Path) -> dict[str, str]:
    """Split the weights into two files with an index; returns its weight map."""
    from safetensors.numpy import load_file, save_file

    whole = directory / "model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    parts = [sorted(weights)[::2], sorted(weights)[1::2]]
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for name, part in zip(names, parts, strict=True):
        save_file({key: weights[key] for key in part}, directory / name)
    weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return weight_map


def as_adapter(directory: Path, base: str = "owner/base") -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    (directory / "adapter_model.safetensors").write_bytes(b"adapter")


def cut_by_one_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])


def without_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def set_config(directory: Path, **values: object) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_whole_directories_have_no_problem(directory: Path) -> None:
    assert problem_of_directory(directory) is None
    shard(directory)
    assert problem_of_directory(directory) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: (d / "config.json").unlink(), "no readable config.json"),
        (lambda d: (d / "config.json").write_text("{" * 100_000), "no readable config.json"),
        (lambda d: (d / "config.json").write_text("{}"), "names no model_type"),
        (lambda d: set_config(d, is_encoder_decoder=True), "an encoder-decoder model (LlamaForCausalLM)"),
        (
            lambda d: set_config(d, architectures=["BertForMaskedLM"]),
            "a masked language model (BertForMaskedLM)",
        ),
        (lambda d: set_config(d, architectures=["XForSequenceClassification"]), "a sequence classifier"),
        (lambda d: (d / "model.safetensors").unlink(), "no weights that can be loaded"),
        (lambda d: (d / "model.safetensors").rename(d / "m.safetensors"), "there is only m.safetensors"),
        (lambda d: (d / "model.safetensors").write_bytes(b""), "Its model.safetensors is empty."),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"no tensors"),
            "model.safetensors is no safetensors file",
        ),
        (lambda d: lengthen_header(d / "model.safetensors"), "model.safetensors is no safetensors file"),
        (lambda d: cut_by_one_byte(d / "model.safetensors"), "model.safetensors is cut off or damaged"),
        (
            lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid"),
            "model.safetensors is not the file itself but a Git LFS pointer",
        ),
        (without_tokenizer, "It has no tokenizer: add"),
        (lambda d: (d / "tokenizer.json").write_bytes(b""), "Its tokenizer.json is empty."),
        (lambda d: (d / "tokenizer_config.json").write_text("[]"), "Its tokenizer_config.json is damaged"),
        (lambda d: (d / "added_tokens.json").write_text('{"a'), "Its added_tokens.json is damaged"),
        (
            lambda d: (d / "generation_config.json").write_text('{"eos'),
            "Its generation_config.json is damaged: it is no JSON object.",
        ),
        (
            as_adapter,
            "a LORA adapter (adapter_config.json, adapter_model.safetensors) beside a language model",
        ),
    ],
)
def test_what_is_wrong_with_a_directory_is_told(
    directory: Path, change: Callable[[Path], object], said: str
) -> None:
    change(directory)
    problem = problem_of_directory(directory)
    assert problem is not None and said in problem


def test_a_missing_shard_is_named(directory: Path) -> None:
    names = sorted(set(shard(directory).values()))
    (directory / names[1]).unlink()
    problem = problem_of_directory(directory)
    assert problem == (
        f"It lacks 1 of the 2 files of weights that model.safetensors.index.json names: {names[1]}."
    )


def test_a_cut_shard_is_named(directory: Path) -> None:
    names = sorted(set(shard(directory).values()))
    cut_by_one_byte(directory / names[1])
    assert f"Its {names[1]} is cut off" in str(problem_of_directory(directory))


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_names_no_files_is_damaged(directory: Path, index: str) -> None:
    shard(directory)
    (directory / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json is damaged" in str(problem_of_directory(directory))


def test_an_index_names_no_files_outside_the_directory(directory: Path) -> None:
    shard(directory)
    (directory / "model.safetensors.index.json").write_text(
        '{"metadata": {}, "weight_map": {"a": "../model.safetensors"}}'
    )
    assert "names files outside the directory: ../model.safetensors." in str(problem_of_directory(directory))


def test_an_index_that_transformers_does_not_read_is_damaged(directory: Path) -> None:
    weight_map = shard(directory)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "it has no metadata" in str(problem_of_directory(directory))


def test_shards_without_their_index_are_told(directory: Path) -> None:
    shard(directory)
    (directory / "model.safetensors.index.json").unlink()
    problem = problem_of_directory(directory)
    assert problem is not None and "no index of its weights (model.safetensors.index.json" in problem


@pytest.mark.parametrize(("base", "named"), [("owner/base", "owner/base"), ("/home/someone/base", "base")])
def test_an_adapter_alone_is_named_with_its_base(tmp_path: Path, base: str, named: str) -> None:
    as_adapter(tmp_path, base)
    problem = problem_of_directory(tmp_path)
    assert problem is not None and problem.startswith(
        f"It is a LORA adapter of {named} (adapter_config.json, "
    )
    assert "merge it into its base model" in problem


def test_a_tokenizer_of_bytes_needs_no_files(directory: Path) -> None:
    without_tokenizer(directory)
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert problem_of_directory(directory) is None
