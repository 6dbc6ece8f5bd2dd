"""What libraries say of a load that failed, as people hear it."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

from gql_server.compute.language_models.load_failures import sentences_of
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import LanguageModelSource


@pytest.mark.parametrize(
    ("error", "sentences"),
    [
        (
            ValueError("First thing.\nSecond thing, with more:\n- one\n- two"),
            "First thing. Second thing, with more: - one - two.",
        ),
        (ValueError("a line that\n   goes on here"), "a line that goes on here."),
        (ValueError("It is so. Pass `from_tf=True` to load it. Or not."), "It is so. Or not."),
        (RuntimeError("It broke. For details look at the above report!"), "It broke."),
        (
            ImportError(
                "FooTokenizer requires foo. You can `pip install -U 'foo-bar>=2'` and pip\n install baz."
            ),
            "It needs a Python package that this server does not have, which its operator can install: "
            "foo-bar baz. FooTokenizer requires foo.",
        ),
        (
            ImportError("FooTokenizer requires foo."),
            "It needs a Python package that this server does not have. FooTokenizer requires foo.",
        ),
        (ValueError("Field 'a': TypeError: it is no number"), "Field 'a': it is no number."),
        (RuntimeError(), "RuntimeError."),
        (KeyError(), "KeyError."),
        (KeyError("foo"), "Its files have a value that transformers cannot use (KeyError: 'foo')."),
        (
            AttributeError("'list' object has\nno attribute 'get'"),
            "Its files have a value that transformers cannot use"
            " (AttributeError: 'list' object has no attribute 'get').",
        ),
    ],
)
def test_all_that_a_client_can_use_is_kept_and_nothing_else(error: Exception, sentences: str) -> None:
    assert sentences_of(error) == sentences


def failure(directory: Path) -> str:
    source = LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")
    with pytest.raises(TaskError) as raised:
        LanguageModels(device="cpu").get(source)
    assert raised.value.code == "CONFLICT"
    return raised.value.reason


def test_code_of_a_model_s_own_is_told_without_an_option_that_nobody_has(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "own.py").write_text("raise SystemExit('never run')")
    reason = failure(directory)
    assert "It needs Python code of its own, which this server does not run" in reason
    assert "trust_remote_code" not in reason


@pytest.mark.parametrize("beside_a_model", [True, False])
def test_an_adapter_that_came_after_the_model_was_added_fails_the_load(
    tiny_model_dir: Path, tmp_path: Path, beside_a_model: bool
) -> None:
    directory = tmp_path / "model"
    if beside_a_model:
        shutil.copytree(tiny_model_dir, directory)
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "o/base"}'
    )
    said = "It holds a LORA adapter" if beside_a_model else "It is a LORA adapter of o/base"
    assert f"The language model model could not be loaded: {said}" in failure(directory)


def test_a_hub_that_cannot_be_reached_is_told_so() -> None:
    sentence = "The Hub cannot be reached from this server, or does not answer. Try again later."
    for error in (httpx.ConnectError("[Errno -2] Name or service not known"), httpx.ReadTimeout("")):
        assert sentences_of(error) == sentence
