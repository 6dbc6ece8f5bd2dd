"""The benchmarks of looking, steering and indexing, on a tiny model."""

from pathlib import Path

import pytest

from benchmarks import index_time, looking, steered
from benchmarks.rows import Row
from benchmarks.smollm2 import Subject
from gql_server.artifacts.datasets import built_in_python_reference
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.protocol.sources import LanguageModelSource
from tests.support.tiny_model import make_tiny_model


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Give a tiny model and its first block."""
    location = str(make_tiny_model(tmp_path / "model"))
    source = LanguageModelSource("lm_a", "DIRECTORY", location, None, "FLOAT32", str(tmp_path / "copy"))
    return Subject(source, LanguageModels(device="cpu"), "llamaforcausallm_model_layers_0")


def check(rows: list[Row]) -> None:
    """Assert that a line says of both sides what they are, and reached of what was measured."""
    for row in rows:
        assert row.ours and row.measured
        assert row.precision == "float32"
        assert bool(row.against) == bool(row.theirs)
        if row.goal:
            ratio, goal = float(row.measured.split()[0]), float(row.goal.split()[1])
            # To the two digits that are shown.
            low = ratio - 0.005 <= goal if row.goal.startswith("≤") else ratio + 0.005 >= goal
            high = ratio + 0.005 <= goal if row.goal.startswith("≤") else ratio - 0.005 >= goal
            assert row.reached in (low, high)


@pytest.mark.parametrize("name", looking.CLASSES)
def test_top_neurons_are_held_against_a_pass_of_the_model_and_against_the_least(
    subject: Subject, name: str
) -> None:
    table = looking.measure(subject, name, n_tokens=21, n_latents=64, rounds=1)
    check(table)
    assert [bool(row.goal) for row in table] == [True, True, True, False]
    assert all(f"21 tokens, {name} of 64 neurons" in row.what for row in table)


def test_prompts_are_as_many_tokens_as_asked_for(subject: Subject) -> None:
    lengths = (9, 14, 5)
    found = subject.prompts(lengths)
    assert [len(subject.lm.tokenizer(prompt)["input_ids"]) for prompt in found] == list(lengths)
    assert len(set(found)) == 3


def test_steering_is_held_against_transformers_with_every_token_sent(subject: Subject) -> None:
    table = steered.measure(subject, (9, 5), n_new=4, n_latents=64, rounds=1)
    check(table)
    assert [row.what.rpartition(" ")[2] for row in table] == ["ERROR_PRESERVING", "RECONSTRUCTION"]
    assert not subject.lm.model.get_output_embeddings()._forward_hooks


def test_an_index_is_held_against_encoding_the_same(subject: Subject, tmp_path: Path) -> None:
    run = index_time.capture(tmp_path, subject, built_in_python_reference()[:40])
    table = index_time.measure(run, "TopKSae", n_latents=64, rounds=1)
    check(table)
    assert [bool(row.goal) for row in table] == [True, False, True]
    assert f"{run.token_count:,} tokens" in table[0].what
    assert run.token_count > 500
