"""Every kind of job and its handler; where one is not whole, importing this module says what is missing."""

from collections.abc import Iterable
from typing import get_args

from gql_server.jobs.handler import Handler
from gql_server.protocol import wire
from gql_server.services.activation_runs import CaptureHandler
from gql_server.services.evaluations import EvaluationHandler
from gql_server.services.language_models import LoadHandler
from gql_server.services.neuron_indexes import IndexHandler
from gql_server.services.sae_exports import ExportHandler
from gql_server.services.sae_imports import ImportHandler
from gql_server.services.saes import TrainHandler
from gql_server.settings import Settings
from models.enums import JobKind

HANDLERS: tuple[type[Handler], ...] = (
    LoadHandler,
    CaptureHandler,
    TrainHandler,
    IndexHandler,
    EvaluationHandler,
    ImportHandler,
    ExportHandler,
)
_DECLARED = ("kind", "description", "lane", "unit", "task", "result")


def by_kind(handlers: Iterable[type[Handler]]) -> dict[JobKind, type[Handler]]:
    """Return each kind's handler.

    Raises:
        TypeError: A kind has none or two, or a handler does not say all there is to say.
    """
    found: dict[JobKind, type[Handler]] = {}
    for handler in handlers:
        _check(handler)
        if handler.kind in found:
            names = f"{found[handler.kind].__name__} and {handler.__name__}"
            raise TypeError(f"{names} both have the kind {handler.kind}; give one of them a kind of its own.")
        found[handler.kind] = handler
    for kind in JobKind:
        if kind not in found:
            raise TypeError(
                f"No handler has the kind {kind}: write a subclass of JobHandler with it in a module of "
                "gql_server/services, and add that to HANDLERS in gql_server/services/job_kinds.py."
            )
    return found


def _check(handler: type[Handler]) -> None:
    name = handler.__name__
    missing = [attribute for attribute in _DECLARED if not hasattr(handler, attribute)]
    if missing or handler.__abstractmethods__:
        lacking = ", ".join([*missing, *sorted(handler.__abstractmethods__)])
        raise TypeError(f"{name} lacks {lacking}, which gql_server/jobs/handler.py explains.")
    for message, union in (
        (handler.task, wire.AnyTask),
        (handler.result, wire.AnyResult),
        *((event, wire.AnyEvent) for event in handler.events),
    ):
        if message not in get_args(union):
            raise TypeError(
                f"{message.__name__} of {name} cannot be sent: make it a subclass of Task, Result or Event in"
                " gql_server/protocol/tasks.py, results.py or events.py."
            )


BY_KIND = by_kind(HANDLERS)


def handlers(settings: Settings) -> dict[JobKind, Handler]:
    """Return the handler of every kind of job."""
    return {kind: handler(settings) for kind, handler in BY_KIND.items()}
