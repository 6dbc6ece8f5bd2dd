"""What a language model is in one word, and how what it was and what it is are told apart."""

import hashlib
import subprocess
from pathlib import Path

import msgspec
import pytest

from gql_server.artifacts.provenance import FileHash, LanguageModelProvenance
from gql_server.model_files.files import identify
from gql_server.model_files.identity import (
    conflict,
    conflict_of_two,
    conflict_with_batches,
    differences,
    fingerprint,
    same,
)
from gql_server.protocol.sources import LanguageModelSource, MadeWith

COMMIT = "0123456789abcdef" * 2 + "01234567"


def file(name: str, content: str) -> FileHash:
    return FileHash(name, len(content), hashlib.sha256(content.encode()).hexdigest())


def model(weights: str = "a", config: str = "c", tokenizer: str | None = "t") -> LanguageModelProvenance:
    files = [file("config.json", config), file("model.safetensors", weights)]
    of_tokenizer = [] if tokenizer is None else [file("tokenizer.json", tokenizer)]
    return LanguageModelProvenance("DIRECTORY", "tiny", None, files, "FLOAT32", None, of_tokenizer)


def repository(commit: str | None) -> LanguageModelProvenance:
    return LanguageModelProvenance("HUGGING_FACE", "owner/name", commit, [], "FLOAT32", None)


def made(origin: LanguageModelProvenance, *accepted: str | None, what: str = "The SAE 'a'") -> MadeWith:
    return MadeWith(what, "2026-01-02 03:04 UTC", origin, [one for one in accepted if one])


def test_a_fingerprint_is_what_sha256sum_gives(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    names = ["config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.json"]
    for name in (*names, "README.md", "tokenizer_config.json"):
        (directory / name).write_text(f"content of {name}")
    source = LanguageModelSource("lm", "DIRECTORY", str(directory), None, "FLOAT32", str(tmp_path / "copy"))
    found = identify(source)
    assert found is not None
    printed = subprocess.run(["sha256sum", *names], cwd=directory, capture_output=True, check=True).stdout
    assert fingerprint(found) == hashlib.sha256(printed).hexdigest()


def test_a_repository_is_its_commit_and_of_nothing_there_is_no_fingerprint() -> None:
    assert fingerprint(repository(COMMIT)) == COMMIT
    assert fingerprint(repository(None)) is None


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (model(), []),
        (model(weights="b"), ["model.safetensors"]),
        (model(config="d", weights="b"), ["config.json", "model.safetensors"]),
        (model(tokenizer="u"), ["tokenizer.json"]),
        # Of what an earlier version has made the tokenizer is not known, of what was gone nothing.
        (model(tokenizer=None), []),
        (repository(None), []),
    ],
)
def test_what_differs_is_named_with_both_hashes(now: LanguageModelProvenance, names: list[str]) -> None:
    found = differences(model(), now)
    assert [sentence.split(" ")[0] for sentence in found] == names
    assert same(model(), now) == (not names)
    hashes = {one.name: one.sha256[:12] for one in (*now.files, *now.tokenizer_files)}
    before = {one.name: one.sha256[:12] for one in (*model().files, *model().tokenizer_files)}
    assert found == [f"{name} was {before[name]}, is {hashes[name]}" for name in names]


def test_shards_that_come_and_go_are_told() -> None:
    shards = [file("config.json", "c"), file("model-1.safetensors", "x")]
    now = msgspec.structs.replace(model(), files=shards)
    gone, come = (one.sha256[:12] for one in (model().files[1], shards[1]))
    assert differences(model(), now) == [
        f"model.safetensors was {gone}, is gone",
        f"model-1.safetensors was not there, is {come}",
    ]


def test_commits_are_compared() -> None:
    other = "f" * 40
    assert same(repository(COMMIT), repository(COMMIT))
    assert differences(repository(COMMIT), repository(other)) == [
        f"commit was {COMMIT[:12]}, is {other[:12]}"
    ]


def test_a_conflict_names_both_and_goes_with_what_was_accepted() -> None:
    now = model(weights="b")
    sentence = conflict(made(model()), now)
    assert sentence is not None
    for part in ("The SAE 'a'", "2026-01-02 03:04 UTC", *differences(model(), now), "acceptLanguageModel"):
        assert part in sentence
    assert conflict(made(model(), fingerprint(now)), now) is None
    assert conflict(made(model(), fingerprint(now)), model(weights="c")) is not None
    assert conflict(None, now) is None and conflict(made(model()), None) is None
    assert conflict(made(model()), model()) is None


def test_two_that_were_made_with_different_models_do_not_go_together() -> None:
    sae, run = made(model()), made(model(weights="b"), what="The run 'r'")
    sentence = conflict_of_two(sae, run)
    assert sentence is not None and "The SAE 'a'" in sentence and "the run 'r'" in sentence
    assert conflict_of_two(sae, made(model())) is None
    assert conflict_of_two(made(model(), fingerprint(model(weights="b"))), run) is None
    assert conflict_of_two(None, run) is None and conflict_of_two(sae, None) is None


def test_batches_of_another_model_are_not_gone_on_from() -> None:
    assert conflict_with_batches(model(), model()) is None
    sentence = conflict_with_batches(model(), model(weights="b"))
    assert sentence is not None and differences(model(), model(weights="b"))[0] in sentence
