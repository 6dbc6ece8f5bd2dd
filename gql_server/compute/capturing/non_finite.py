"""Tokens that a capture leaves out because a layer's values are NaN or infinite there."""

from functools import reduce

from gql_server.artifacts.manifest import Manifest, NotFinite
from gql_server.compute.non_finite import MAX_SHARE, cause_in_model
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.tasks import CaptureActivations

_TEXTS_NAMED = 5


def added(one: NotFinite, other: NotFinite) -> NotFinite:
    """Put two together."""
    return NotFinite(
        one.in_model + other.in_model,
        one.as_stored + other.as_stored,
        sorted({*one.rows, *other.rows}),
        list(dict.fromkeys([*one.layers, *other.layers])),
    )


def check_share(found: NotFinite, token_count: int, task: CaptureActivations) -> None:
    """Raise TaskError where more of a run's tokens than may be are not finite."""
    if found.token_count > MAX_SHARE * token_count:
        reason = (
            f"{_what(found)}, more than {MAX_SHARE:.0%} of the run's {token_count:,}, which may be left out. "
            f"{_why(found, task)}"
        )
        of_dtype = not found.in_model
        raise TaskError(reason, "INVALID" if of_dtype else "CONFLICT", ("dtype",) if of_dtype else ())


def tell_non_finite(manifest: Manifest, task: CaptureActivations, context: TaskContext) -> None:
    """Log which tokens of a finished run were left out; TaskError where they are too many."""
    found = reduce(added, (batch.not_finite for batch in manifest.batches if batch.not_finite), NotFinite())
    if found.token_count == 0:
        return
    check_share(found, manifest.token_count + found.token_count, task)
    context.emit(Log(f"{_what(found)}; they are left out. {_why(found, task)}"))


def _what(found: NotFinite) -> str:
    rows = ", ".join(map(str, found.rows[:_TEXTS_NAMED]))
    more = ", …" if len(found.rows) > _TEXTS_NAMED else ""
    texts = "1 text" if len(found.rows) == 1 else f"{len(found.rows):,} texts"
    tokens = "1 token" if found.token_count == 1 else f"{found.token_count:,} tokens"
    return (
        f"Activations of {', '.join(found.layers)} are NaN or infinite at {tokens} of {texts} "
        f"(counted from 0 in the dataset: {rows}{more})"
    )


def _why(found: NotFinite, task: CaptureActivations) -> str:
    causes = []
    if found.in_model:
        causes.append(cause_in_model(task.language_model.dtype))
    if found.as_stored:
        causes.append(
            f"The language model's own values are finite, but do not fit into {task.dtype}, the run's "
            "precision: capture with dtype BFLOAT16 or FLOAT32."
        )
    return " ".join(causes)
