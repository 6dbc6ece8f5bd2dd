"""What stands before a language model computes with something that was made with one: are they the same?"""

from collections.abc import Iterator
from contextlib import contextmanager

from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.worker.context import TaskError
from gql_server.model_files.identity import conflict
from gql_server.protocol.sources import LanguageModelSource, MadeWith

from mi_crow.language_model.language_model import LanguageModel


def check_pair(made_with: MadeWith | None, now: LanguageModelProvenance | None) -> None:
    """Raise TaskError CONFLICT where a model is known to be another one than something was made with."""
    sentence = conflict(made_with, now)
    if sentence is not None:
        raise TaskError(sentence, "CONFLICT")


@contextmanager
def paired(
    language_models: LanguageModels, source: LanguageModelSource, made_with: MadeWith | None
) -> Iterator[tuple[LanguageModel, LanguageModelProvenance]]:
    """Give a model that is the one that something was made with, and what it is.

    Raises TaskError CONFLICT where it is another one, and at the end where its files were overwritten
    meanwhile.
    """
    lm, origin = language_models.get_identified(source)
    check_pair(made_with, origin)
    yield lm, origin
    language_models.check_not_overwritten(source)
