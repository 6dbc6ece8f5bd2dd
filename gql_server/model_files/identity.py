"""Whether a language model is what something was made with: hashes are compared, whatever the IDs say."""

import hashlib
from collections.abc import Iterable

from gql_server.artifacts.provenance import FileHash, LanguageModelProvenance
from gql_server.protocol.sources import MadeWith

_SHOWN_DIGITS = 12
_SHOWN_FILES = 3


def fingerprint(origin: LanguageModelProvenance) -> str | None:
    """Return a model's identity in one word; None where nothing is known of it.

    Of a repository it is the commit; otherwise the SHA-256 of what ``sha256sum`` prints of its files, those
    of the tokenizer last.
    """
    if origin.revision is not None:
        return origin.revision
    lines = [f"{file.sha256}  {file.name}\n" for file in (*origin.files, *origin.tokenizer_files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def differences(before: LanguageModelProvenance, now: LanguageModelProvenance) -> list[str]:
    """Return in words what is not the same; what is known of one side alone is not compared."""
    if before.revision is not None and now.revision is not None:
        return _different("commit", before.revision, now.revision)
    found: list[str] = []
    for files_before, files_now in (
        (before.files, now.files),
        (before.tokenizer_files, now.tokenizer_files),
    ):
        if files_before and files_now:
            found += _different_files(files_before, files_now)
    return found


def same(before: LanguageModelProvenance, now: LanguageModelProvenance) -> bool:
    """Whether nothing is known to differ."""
    return not differences(before, now)


def conflict(made_with: MadeWith | None, now: LanguageModelProvenance | None) -> str | None:
    """Say in a sentence why something cannot be used with the model as it is now; None where it can."""
    if made_with is None or now is None:
        return None
    found = differences(made_with.language_model, now)
    if not found or fingerprint(now) in made_with.accepted:
        return None
    return (
        f"{_made(made_with)} with other files of the language model {now.source!r} than it has now:"
        f" {_listed(found)}. Put the earlier ones back, make it anew, or accept the model as it is now with"
        " acceptLanguageModel."
    )


def conflict_with_batches(before: LanguageModelProvenance, now: LanguageModelProvenance) -> str | None:
    """Say in a sentence why a capture does not go on: what is there was captured with another model."""
    found = differences(before, now)
    if not found:
        return None
    return (
        f"The batches that are there were captured with other files of the language model {now.source!r}:"
        f" {_listed(found)}. Put the earlier ones back and retry the job, or capture another run."
    )


def conflict_of_two(first: MadeWith | None, second: MadeWith | None) -> str | None:
    """Say in a sentence why what was made with one state of a model cannot be used with what was made with
    another.
    """
    if first is None or second is None:
        return None
    found = differences(first.language_model, second.language_model)
    if not found or fingerprint(second.language_model) in first.accepted:
        return None
    return (
        f"{_made(first)} with other files of the language model {first.language_model.source!r} than"
        f" {_decapitalized(second.what)} ({second.made_at}): {_listed(found)}. Name one that was made with"
        " the same, or accept the model as it is now with acceptLanguageModel."
    )


def _made(made_with: MadeWith) -> str:
    return f"{made_with.what} was made ({made_with.made_at})"


def _decapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]


def _listed(found: list[str]) -> str:
    more = len(found) - _SHOWN_FILES
    return ", ".join(found[:_SHOWN_FILES]) + (f", and {more} more" if more > 0 else "")


def _different_files(before: Iterable[FileHash], now: Iterable[FileHash]) -> list[str]:
    hashes_before = {file.name: file.sha256 for file in before}
    hashes_now = {file.name: file.sha256 for file in now}
    return [
        sentence
        for name in dict.fromkeys((*hashes_before, *hashes_now))
        for sentence in _different(name, hashes_before.get(name), hashes_now.get(name))
    ]


def _different(name: str, before: str | None, now: str | None) -> list[str]:
    if before == now:
        return []
    was = "was not there" if before is None else f"was {before[:_SHOWN_DIGITS]}"
    is_ = "is gone" if now is None else f"is {now[:_SHOWN_DIGITS]}"
    return [f"{name} {was}, {is_}"]
