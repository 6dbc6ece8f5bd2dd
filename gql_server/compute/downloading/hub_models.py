"""A language model's files on the Hugging Face Hub, got into the Hub's cache on this machine."""

from pathlib import Path

from huggingface_hub import snapshot_download

from gql_server.compute.context import TaskError
from gql_server.compute.messages.sources import LanguageModelSource
from gql_server.language_model_files import name_of, repository_in_cache, whole_snapshot_in_cache

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
"""What a load needs of a repository, but for weights in PyTorch's own format."""
_OTHER_FILES = ["*/*", "consolidated*"]
"""Other programs' copies of the weights."""


def download_files(source: LanguageModelSource) -> None:
    """Get what a load needs of a repository, unless the cache has it; weights in one format alone.

    A Hub that cannot be reached is no failure where the cache has what was got before. Raises TaskError
    CONFLICT with a sentence.
    """
    try:
        directory = _download(source, _FILES)
        if not any(Path(directory).glob("*.safetensors")):
            _download(source, [*_FILES, "*.bin"])
    except MemoryError:
        raise
    except Exception as error:
        if whole_snapshot_in_cache(source) is None:
            reason = f"The language model {name_of(source)} could not be loaded: {_sentences_of(error)}"
            raise TaskError(reason, "CONFLICT") from error


def _download(source: LanguageModelSource, patterns: list[str]) -> str:
    return snapshot_download(
        source.location, revision=source.revision, allow_patterns=patterns, ignore_patterns=_OTHER_FILES
    )


def _sentences_of(error: Exception) -> str:
    # It imports transformers, whose seconds a download that goes well does not wait for.
    from gql_server.compute.language_models.load_failures import sentences_of

    return sentences_of(error)


def downloaded_bytes(source: LanguageModelSource) -> int:
    """Return how many bytes of a repository's files have come so far, of all its commits."""
    total = 0
    for file in (repository_in_cache(source) / "blobs").glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue  # It has just got its last name.
    return total
