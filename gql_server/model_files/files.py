"""The files that make a language model what it is, and what they are now: told without loading it."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from gql_server.artifacts.file_hashes import FileState, hash_files, known_hashes
from gql_server.artifacts.provenance import FileHash, LanguageModelProvenance
from gql_server.model_files.directories import problem_of_directory
from gql_server.model_files.hub_names import is_repository
from gql_server.protocol.sources import LanguageModelSource

CONFIG_FILE = "config.json"
_VOCABULARY = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "*.tiktoken",
)
"""What a text's tokens depend on. Options and templates, which people edit, do not make another model."""
_OPTIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "generation_config.json",
    "*.index.json",
)
"""What else a load reads, so that it is to be loaded anew where one changes."""

_COMMIT = re.compile(r"[0-9a-f]{40}")

HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""What a load needs of a repository, but for weights in PyTorch's own format."""
OTHER_HUB_FILES = ("*/*", "consolidated*")
"""Other programs' copies of the weights."""

Stamp = dict[str, FileState | str]
"""What a look at a model's files tells; of a repository, the commit that the Hub's cache has."""


def name_of(source: LanguageModelSource) -> str:
    """Return what a place is called in messages: not where on this machine it is."""
    return source.location if source.kind == "HUGGING_FACE" else Path(source.location).name


def files_of_model(directory: Path) -> list[Path]:
    """Return the files that make a directory's model what it is: its configuration and its weights."""
    weights = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin"))
    return [*directory.glob(CONFIG_FILE), *weights]


def tokenizer_files(directory: Path) -> list[Path]:
    """Return the files that a directory's tokenizer has its vocabulary and its rules in."""
    return list(_matching(directory, _VOCABULARY))


def _matching(directory: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(directory.glob(pattern))


def files_of_load(source: LanguageModelSource) -> list[Path]:
    """Return the files that a load reads; none of a repository, whose commit says what they are."""
    place = Path(source.location)
    if source.kind == "DIRECTORY":
        others = _matching(place, _OPTIONS)
        return list(dict.fromkeys((*files_of_model(place), *tokenizer_files(place), *others)))
    return [place] if source.kind == "GGUF" and place.is_file() else []


def stamp_of(source: LanguageModelSource) -> Stamp:
    """Look at a model's files without reading them; nothing of a model that has gone."""
    if source.kind == "HUGGING_FACE":
        commit = commit_in_cache(source)
        return {} if commit is None else {"commit": commit}
    stamp: Stamp = {}
    for file in files_of_load(source):
        with suppress(FileNotFoundError):
            stamp[file.name] = FileState.of(file)
    return stamp


def commit_of(place: str) -> str | None:
    """Return the commit of a download: the Hub's cache has a directory for each, named so."""
    name = Path(place).name
    return name if _COMMIT.fullmatch(name) else None


def repository_in_cache(source: LanguageModelSource) -> Path:
    """Return the directory that the Hub's cache has for a repository, be it there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / ("models--" + source.location.replace("/", "--"))


def commit_in_cache(source: LanguageModelSource) -> str | None:
    """Return the commit that a repository's branch or tag stands for in the Hub's cache, if it is there."""
    from huggingface_hub import constants

    revision = source.revision or constants.DEFAULT_REVISION
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        content = (repository_in_cache(source) / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        return None
    return content if _COMMIT.fullmatch(content) else None


def snapshot_in_cache(source: LanguageModelSource) -> Path | None:
    """Return the directory that the Hub's cache has for a repository's revision, if it is there."""
    commit = commit_in_cache(source)
    if commit is None or not is_repository(source.location):
        return None
    directory = repository_in_cache(source) / "snapshots" / commit
    return directory if directory.is_dir() else None


def whole_snapshot_in_cache(source: LanguageModelSource) -> Path | None:
    """Return that directory where all that a load needs of it is there; reads its small files."""
    directory = snapshot_in_cache(source)
    if directory is None or problem_of_directory(directory) is not None:
        return None
    return directory if _is_complete(source, directory) else None


def _is_complete(source: LanguageModelSource, directory: Path) -> bool:
    """Whether nothing is missing that the cache knows of as a file of the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(
            source.location,
            revision=directory.name,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(OTHER_HUB_FILES),
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return False
    return True


def identify(
    source: LanguageModelSource, check: Callable[[], None] = lambda: None
) -> LanguageModelProvenance | None:
    """Say what a model is, whether it is loaded or not; reads files whole that have changed since the last
    time. None where it is not there, or cannot be read.
    """
    try:
        hashes = hash_files(files_of_load(source), Path(source.copy_dir), check)
    except OSError:
        return None
    return _provenance(source, hashes)


def identify_by_looks(source: LanguageModelSource) -> LanguageModelProvenance | None:
    """Say what a model is where that is known without reading its files; None otherwise."""
    try:
        hashes = known_hashes(files_of_load(source), Path(source.copy_dir))
    except OSError:
        return None
    return None if hashes is None else _provenance(source, hashes)


def _provenance(source: LanguageModelSource, hashes: list[FileHash]) -> LanguageModelProvenance | None:
    commit = commit_in_cache(source) if source.kind == "HUGGING_FACE" else None
    if commit is None and not hashes:
        return None
    by_name = {file.name: file for file in hashes}
    directory = Path(source.location)
    in_directory = source.kind == "DIRECTORY"
    of_model = files_of_model(directory) if in_directory else [Path(name) for name in by_name]
    of_tokenizer = tokenizer_files(directory) if in_directory else []
    return LanguageModelProvenance(
        source_kind=source.kind,
        source=name_of(source),
        revision=commit,
        files=[by_name[file.name] for file in of_model if file.name in by_name],
        dtype=source.dtype,
        tokenizer_sha256=None,
        tokenizer_files=[by_name[file.name] for file in of_tokenizer if file.name in by_name],
    )
