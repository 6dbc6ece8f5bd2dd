"""Texts in a reader's process: read, checked, stored, looked at, and their tokens counted."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gql_server.artifacts import datasets
from gql_server.artifacts.files import fsync_tree, open_inside
from gql_server.services.tokenizing import TokenCounter, TokenizerFiles
from gql_server.text_files.columns import columns_in
from gql_server.text_files.problems import FileProblem
from gql_server.text_files.reading import ReadingOptions, texts_in
from gql_server.text_files.rows import SkippedRows

_TEXTS_TO_ESTIMATE_FROM = 256
CHARACTERS_TO_COUNT = 1_000_000
"""Of a preview's texts, whose tokens are counted."""
_COUNTED = (Sequence, datasets.TextDataset)
GONE = "The texts of the dataset are gone or damaged; upload it again."


@dataclass(frozen=True)
class TextSource:
    """Where texts come from: given as they are, a file's, a dataset's, or the built-in ones where none is."""

    texts: Sequence[str] | None = None
    name: str = ""
    """The file's; its ending says what kind it is."""
    path: Path | None = None
    roots: Sequence[Path] = ()
    """Directories under one of which the file lies."""
    dataset: Path | None = None
    """The directory of a stored dataset."""
    columns: Sequence[str] = ()
    """Of a stored dataset's file."""


@dataclass(frozen=True)
class Wanted:
    """Which texts to take, and the limits for them."""

    options: ReadingOptions
    offset: int
    limit: int | None
    most_bytes: int
    """Of the texts that are kept."""
    tokenizer: TokenizerFiles
    max_length: int | None = None
    """At which a text's tokens are cut; None where they are not."""
    keeps_rest: bool = True
    """Keep what stands behind the texts that are wanted as well, where it need not be read for that."""


@dataclass(frozen=True)
class TakenTexts:
    """What is kept of a source."""

    count: int
    """Of the source's texts; of a file, those up to the last one that is wanted."""
    n_selected: int
    """Those from the offset on, as many as are wanted."""
    any_counts: bool
    """Whether any of those has a token that counts, as far as can be told."""
    n_tokens: float | None
    """Of those, about; None where it cannot be told."""
    skipped: SkippedRows = field(default_factory=SkippedRows)


class NotTaken(NamedTuple):
    """Why a source's texts cannot be taken: a sentence."""

    problem: str


@dataclass(frozen=True)
class StoredTexts:
    """What is kept of a file."""

    count: int
    skipped_count: int
    columns: list[str]
    byte_size: int
    """On the disk."""


@dataclass(frozen=True)
class Previewed:
    """What the beginning of a source tells of it."""

    columns: list[str]
    texts: list[str]
    count: int | None
    """Of all its texts; None where not all were read."""
    mean_tokens: float | None
    """Of the first texts; None where there are none, or no tokenizer to count with."""
    problem: str | None
    """Why a file of known columns gives no texts as they were asked for."""


def take(source: TextSource, wanted: Wanted, directory: Path) -> TakenTexts | NotTaken:
    """Keep a source's texts as the dataset ``directory``; of a file, none behind those that are wanted."""
    skipped = SkippedRows()
    stop = None if wanted.limit is None else wanted.offset + wanted.limit
    if source.path is None and wanted.keeps_rest:
        stop = None
    try:
        if source.dataset is not None:
            skipped = datasets.TextDataset(source.dataset).skipped
        if source.dataset is not None and _link(source.dataset, directory):
            count = total = len(datasets.TextDataset(directory))
        else:
            count, total = _write(source, wanted.options, wanted.most_bytes, directory, skipped, stop)
        fsync_tree(directory)
    except FileProblem as problem:
        return NotTaken(str(problem))
    except (FileNotFoundError, datasets.UnreadableTexts):
        return NotTaken(GONE)
    kept = datasets.TextDataset(directory)
    last = count if wanted.limit is None else min(count, wanted.offset + wanted.limit)
    n_selected = max(0, last - wanted.offset)
    any_counts, n_tokens = True, None
    counter = TokenCounter.read(wanted.tokenizer)
    if counter is not None:
        any_counts = counter.any_counts(kept.slice(wanted.offset, last))
        n_tokens = _estimate(counter, kept, range(wanted.offset, last), wanted.max_length)
    return TakenTexts(total, n_selected, any_counts, n_tokens, skipped)


def store(
    source: TextSource, options: ReadingOptions, most_bytes: int, directory: Path
) -> StoredTexts | NotTaken:
    """Keep all texts of a file as the dataset ``directory``."""
    skipped = SkippedRows()
    try:
        columns = _columns(source, options)
        count, _ = _write(source, options, most_bytes, directory, skipped)
        fsync_tree(directory)
    except FileProblem as problem:
        return NotTaken(str(problem))
    byte_size = sum(file.stat().st_size for file in directory.iterdir())
    return StoredTexts(count, skipped.count, columns, byte_size)


def preview(
    source: TextSource, options: ReadingOptions, first: int, most_bytes: int, tokenizer: TokenizerFiles | None
) -> Previewed | NotTaken:
    """Read the ``first`` texts of a source, and some more to count tokens in, but no further."""
    columns, texts = list[str](), list[str]()
    try:
        columns = _columns(source, options)
        with ExitStack() as open_files:
            found = _texts(source, options, SkippedRows(), open_files)
            rest = iter(found)
            too_long = f"The first {first} texts have more than {most_bytes / 1e6:,.1f} MB; ask for fewer."
            texts = list(_bounded(islice(rest, first), most_bytes, too_long))
            more, ended = _more(rest, texts)
    except FileProblem as problem:
        if not columns:
            return NotTaken(str(problem))
        return Previewed(columns, [], None, None, str(problem))
    except (FileNotFoundError, datasets.UnreadableTexts):
        return NotTaken(GONE)
    count = len(found) if isinstance(found, _COUNTED) else None
    if count is None and ended:
        count = len(texts) + len(more)
    return Previewed(columns, texts, count, _mean_tokens(tokenizer, [*texts, *more]), None)


def _more(rest: Iterator[str], texts: Sequence[str]) -> tuple[list[str], bool]:
    """Read on for the count of tokens; return what was read, and whether that was all."""
    more, n_characters = list[str](), sum(map(len, texts))
    while len(texts) + len(more) < _TEXTS_TO_ESTIMATE_FROM and n_characters < CHARACTERS_TO_COUNT:
        text = next(rest, None)
        if text is None:
            return more, True
        more.append(text)
        n_characters += len(text)
    return more, False


def _mean_tokens(tokenizer: TokenizerFiles | None, texts: Sequence[str]) -> float | None:
    counter = TokenCounter.read(tokenizer) if tokenizer is not None else None
    if counter is None or not texts:
        return None
    counts, n_characters = list[int](), 0
    for text in texts:
        if counts and n_characters + len(text) > CHARACTERS_TO_COUNT:
            break
        counts.append(counter.count(text))
        n_characters += len(text)
    return sum(counts) / len(counts)


def _columns(source: TextSource, options: ReadingOptions) -> list[str]:
    if source.path is None:
        return list(source.columns)
    with _opened(source) as file:
        return columns_in(source.name, file, options)


def _link(source: Path, directory: Path) -> bool:
    """Take over a stored dataset's files, unless the file system has no hard links."""
    directory.mkdir(parents=True)
    try:
        datasets.link_texts(source, directory)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _write(
    source: TextSource,
    options: ReadingOptions,
    most_bytes: int,
    directory: Path,
    skipped: SkippedRows,
    stop: int | None = None,
) -> tuple[int, int]:
    """Write the texts up to ``stop``; return how many these are, and how many are known to be there."""
    with ExitStack() as open_files:
        found = _texts(source, options, skipped, open_files)
        # Not in a directory beside it, which nobody would remove where this process is ended.
        directory.mkdir(parents=True, exist_ok=True)
        texts = _bounded(islice(found, stop), most_bytes, _no_room(most_bytes))
        count = datasets.write_into(directory, texts, skipped)
    return count, len(found) if isinstance(found, _COUNTED) else count


def _opened(source: TextSource) -> BinaryIO:
    assert source.path is not None
    try:
        return open_inside(source.path, source.roots)
    except OSError:
        raise FileProblem(f"{source.name} cannot be opened, or is no plain file.") from None


def _texts(
    source: TextSource, options: ReadingOptions, skipped: SkippedRows, open_files: ExitStack
) -> Iterable[str]:
    if source.path is not None:
        return texts_in(source.name, open_files.enter_context(_opened(source)), options, skipped)
    if source.dataset is not None:
        return datasets.TextDataset(source.dataset)
    return datasets.built_in_python_reference() if source.texts is None else source.texts


def _bounded(texts: Iterable[str], most_bytes: int, reason: str) -> Iterator[str]:
    n_bytes = 0
    for text in texts:
        n_bytes += len(text.encode())
        if n_bytes > most_bytes:
            raise FileProblem(reason)
        yield text


def _no_room(most_bytes: int) -> str:
    return (
        f"The texts take more than {most_bytes / 1e6:,.1f} MB, and there is room for no more: ask for fewer "
        "by a sampleLimit, or delete runs, SAEs or datasets."
    )


def _estimate(
    counter: TokenCounter, kept: datasets.TextDataset, rows: range, max_length: int | None
) -> float | None:
    sample = rows[:: max(1, len(rows) // _TEXTS_TO_ESTIMATE_FROM)]
    counts = (counter.count(kept[row]) for row in sample)
    n_tokens = sum(count if max_length is None else min(count, max_length) for count in counts)
    return n_tokens / len(sample) * len(rows) if sample else None
