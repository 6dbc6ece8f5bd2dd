"""Where language models are loaded from: the Hub, directories, and GGUF files, which are converted once."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from gql_server.artifacts.file_hashes import FileState, hash_files
from gql_server.artifacts.files import (
    atomic_directory,
    atomic_write,
    leads_out,
    resolve_inside,
    write_changed,
)
from gql_server.artifacts.provenance import FileHash
from gql_server.compute.language_models.gguf_tokens import keep_marks
from gql_server.compute.language_models.load_failures import NotLoadable
from gql_server.compute.language_models.tokenizer_loading import load_tokenizer
from gql_server.compute.language_models.weights import load_weights
from gql_server.compute.worker.context import TaskError
from gql_server.model_files.chat_templates import keep_template
from gql_server.model_files.directories import link_leads_out, problem_of_directory
from gql_server.model_files.files import snapshot_in_cache
from gql_server.protocol.sources import LanguageModelSource

DTYPES = {"FLOAT32": torch.float32, "FLOAT16": torch.float16, "BFLOAT16": torch.bfloat16}

TOKENIZER_FILE = "tokenizer.json"
SPECIAL_TOKENS_FILE = "special_token_ids.json"
CONVERTED_DIRECTORY = "converted"
CONVERTED_FROM_FILE = "converted_from.json"
"""In the converted copy: the name, size and hash of the file that it was made from."""

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
"""What a load needs of a repository, but for weights in PyTorch's own format."""
_OTHER_HUB_FILES = ["*/*", "consolidated*"]
"""Other programs' copies of the weights."""


def place_to_load(source: LanguageModelSource) -> str:
    """Return a directory that transformers can load; converts what is not one yet.

    Raises TaskError CONFLICT where there is no such file, NotLoadable where a directory is no whole model, or
    not there.
    """
    if source.kind == "GGUF":
        return str(_converted(source))
    place = _in_cache(source) if source.kind == "HUGGING_FACE" else source.location
    problem = problem_of_directory(Path(place))
    if problem is not None:
        raise NotLoadable(problem)
    return place


def state_inside(source: LanguageModelSource) -> tuple[int, ...]:
    """Return the state of a model's directories: another one once a name in them was exchanged for a while.

    Raises:
        TaskError: CONFLICT where the place is not under the source's roots any more, or a link in it leads
            out of them.
    """
    roots, place = [Path(root) for root in source.roots], Path(source.location)
    if source.kind == "HUGGING_FACE" or not roots or not place.exists():
        return ()  # That it has gone is told where it is read.
    if resolve_inside(source.location, roots) != place:
        reason = f"The language model {place.name} is not under this server's model directories any more."
        raise TaskError(reason, "CONFLICT")
    if source.kind == "GGUF":
        return ()  # The file's own state tells.
    name = leads_out(place, roots)
    if name is not None:
        raise TaskError(f"The language model {place.name} cannot be used. {link_leads_out(name)}", "CONFLICT")
    found = [Path(path).stat() for path, _, _ in os.walk(place)]
    return tuple(number for state in found for number in (state.st_dev, state.st_ino, state.st_ctime_ns))


def without_places(text: str, source: LanguageModelSource) -> str:
    """Return a text, such as an error's, with names in the place of this machine's paths."""
    own = [] if source.kind == "HUGGING_FACE" else [source.location]
    for place in (*own, source.copy_dir):
        text = text.replace(f"{Path(place).parent}/", "")
    return text


def _in_cache(source: LanguageModelSource) -> str:
    """Return where a repository's files are, which have been downloaded before the task.

    transformers itself would take a directory of that name here for the repository.
    """
    directory = snapshot_in_cache(source)
    if directory is None:
        raise NotLoadable(
            "It is not in this server's cache of the Hub: call loadLanguageModel, which gets it where this "
            "server may use the Hub."
        )
    return str(directory)


def _converted(source: LanguageModelSource) -> Path:
    """Return the converted copy of a GGUF file, made anew where the file is another one by now.

    A copy whose file has gone stays good. One worker converts, or sees that there is nothing to convert, at a
    time.
    """
    copy, file = Path(source.copy_dir) / CONVERTED_DIRECTORY, Path(source.location)
    with _alone_in(Path(source.copy_dir)):
        if copy.is_dir() and not file.is_file():
            return copy
        if not _is_gguf(file):
            raise TaskError(f"{file.name} is not a GGUF file.", "CONFLICT")
        if not copy.is_dir() or not _is_made_from(file, source):
            with atomic_directory(copy) as directory:
                _convert_whole(file, directory, source)
    return copy


def _is_made_from(file: Path, source: LanguageModelSource) -> bool:
    """Whether the copy is of what the file is now; read again only where the file's state has changed."""
    made_from = converted_file(source)
    return made_from is not None and made_from == _hash(file, source)


def _hash(file: Path, source: LanguageModelSource) -> FileHash:
    (found,) = hash_files([file], Path(source.copy_dir), lambda: None)
    return found


def _convert_whole(file: Path, directory: Path, source: LanguageModelSource) -> None:
    """Convert a file, and note its hash; TaskError where it is written meanwhile."""
    before = FileState.of(file)
    # A GGUF takes transformers many seconds each time; the copy less than one.
    _convert(file, directory, DTYPES[source.dtype])
    made_from = _hash(file, source)
    if FileState.of(file) != before:
        raise TaskError(f"{file.name} was written to while it was converted: load it again.", "CONFLICT")
    atomic_write(directory / CONVERTED_FROM_FILE, msgspec.json.encode(made_from))


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep the other worker out of a directory; the system lets it in where this process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def converted_file(source: LanguageModelSource) -> FileHash | None:
    """Return which GGUF file a model was converted from, whatever is in its place by now.

    None where there is no copy, or it is of a version that did not note it and the file has changed since.
    """
    copy = Path(source.copy_dir) / CONVERTED_DIRECTORY
    note, file = copy / CONVERTED_FROM_FILE, Path(source.location)
    if not note.exists():
        if not copy.is_dir() or not file.exists() or file.stat().st_mtime > copy.stat().st_mtime:
            return None
        atomic_write(note, msgspec.json.encode(_hash(file, source)))
    return msgspec.json.decode(note.read_bytes(), type=FileHash)


def _is_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(4) == b"GGUF"
    except OSError:
        return False


def _convert(file: Path, directory: Path, dtype: torch.dtype) -> None:
    place, options = str(file.parent), {"gguf_file": file.name}
    model = load_weights(place, dtype, **options).model
    tokenizer = load_tokenizer(place, model.get_input_embeddings().weight.shape[0], **options)
    # transformers would refuse to save what it takes for quantized; the weights are plain by now.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(directory)
    keep_marks(file, tokenizer, directory)
    tokenizer.save_pretrained(directory)


def write_tokenizer(source: LanguageModelSource, tokenizer: Any, special_token_ids: set[int]) -> None:
    """Write the chat template, and what tokenizes without transformers, unless they are there.

    That is tokenizer.json and the special tokens' ids; a tokenizer that has no fast form leaves neither.
    """
    directory = Path(source.copy_dir)
    keep_template(directory, tokenizer)
    if not tokenizer.is_fast:
        return
    for name, content in (
        (SPECIAL_TOKENS_FILE, json.dumps(sorted(special_token_ids)).encode()),
        (TOKENIZER_FILE, tokenizer.backend_tokenizer.to_str().encode()),
    ):
        write_changed(directory / name, content)
