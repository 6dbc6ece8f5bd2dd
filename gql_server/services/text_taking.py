"""The texts of a request in a reader's process: read, checked, stored, and their tokens counted."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gql_server.artifacts import datasets
from gql_server.artifacts.files import fsync_tree, open_inside
from gql_server.services.tokenizing import TokenCounter, TokenizerFiles
from gql_server.text_files.problems import FileProblem
from gql_server.text_files.reading import ReadingOptions, texts_in
from gql_server.text_files.rows import SkippedRows

_TEXTS_TO_ESTIMATE_FROM = 256


@dataclass(frozen=True)
class TextSource:
    """Where texts come from: given as they are, the built-in ones where neither is, or a file's."""

    texts: Sequence[str] | None = None
    name: str = ""
    """The file's; its ending says what kind it is."""
    path: Path | None = None
    roots: Sequence[Path] = ()
    """Directories under one of which the file lies."""


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


def take(source: TextSource, wanted: Wanted, directory: Path) -> TakenTexts | NotTaken:
    """Keep a source's texts as the dataset ``directory``; of a file, none behind those that are wanted."""
    skipped = SkippedRows()
    stop = None if wanted.limit is None else wanted.offset + wanted.limit
    if source.path is None and wanted.keeps_rest:
        stop = None
    try:
        with ExitStack() as open_files:
            found = _texts(source, wanted.options, skipped, open_files)
            texts = islice(found, stop)
            # Not in a directory beside it, which nobody would remove where this process is ended.
            directory.mkdir(parents=True)
            count = datasets.write_into(directory, _bounded(texts, wanted.most_bytes), skipped)
        fsync_tree(directory)
    except FileProblem as problem:
        return NotTaken(str(problem))
    kept = datasets.TextDataset(directory)
    last = count if wanted.limit is None else min(count, wanted.offset + wanted.limit)
    total = len(found) if isinstance(found, Sequence) else count
    n_selected = max(0, last - wanted.offset)
    any_counts, n_tokens = True, None
    counter = TokenCounter.read(wanted.tokenizer)
    if counter is not None:
        any_counts = counter.any_counts(kept.slice(wanted.offset, last))
        n_tokens = _estimate(counter, kept, range(wanted.offset, last), wanted.max_length)
    return TakenTexts(total, n_selected, any_counts, n_tokens, skipped)


def _texts(
    source: TextSource, options: ReadingOptions, skipped: SkippedRows, open_files: ExitStack
) -> Iterable[str]:
    if source.path is not None:
        try:
            file = open_files.enter_context(open_inside(source.path, source.roots))
        except OSError:
            raise FileProblem(f"{source.name} cannot be opened, or is no plain file.") from None
        return texts_in(source.name, file, options, skipped)
    return datasets.built_in_python_reference() if source.texts is None else source.texts


def _bounded(texts: Iterable[str], most_bytes: int) -> Iterator[str]:
    n_bytes = 0
    for text in texts:
        n_bytes += len(text.encode())
        if n_bytes > most_bytes:
            raise FileProblem(
                f"The texts take more than {most_bytes / 1e6:,.1f} MB, and there is room for no more: ask "
                "for fewer by a sampleLimit, or delete runs or SAEs."
            )
        yield text


def _estimate(
    counter: TokenCounter, kept: datasets.TextDataset, rows: range, max_length: int | None
) -> float | None:
    sample = rows[:: max(1, len(rows) // _TEXTS_TO_ESTIMATE_FROM)]
    counts = (counter.count(kept[row]) for row in sample)
    n_tokens = sum(count if max_length is None else min(count, max_length) for count in counts)
    return n_tokens / len(sample) * len(rows) if sample else None
