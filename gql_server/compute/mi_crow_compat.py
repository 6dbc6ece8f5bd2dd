"""Makes mi_crow importable without torchvision; every compute module imports this before it.

overcomplete, which mi_crow's SAEs stand on, imports its vision code, and with it ``torchvision.transforms``,
whenever it is imported. Nothing here looks at images, and there is no torchvision for every build of torch.
"""

import importlib
import logging
import sys
import warnings
from types import ModuleType


def _works(name: str) -> bool:
    """Say whether a module can be imported; a torchvision that does not fit torch raises RuntimeError."""
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError, OSError, AttributeError):
        return False
    return True


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def import_overcomplete() -> None:
    """Import overcomplete, with an empty torchvision in place meanwhile where there is none that works.

    The stand-in goes again at once, because transformers takes its presence for a torchvision that it can
    use.
    """
    if "overcomplete" in sys.modules or _works("torchvision.transforms"):
        importlib.import_module("overcomplete")
        return
    _forget("torchvision")
    stand_in, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    stand_in.transforms = transforms  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": stand_in, "torchvision.transforms": transforms})
    try:
        importlib.import_module("overcomplete")
    finally:
        _forget("torchvision")


def quieten(package: str = "mi_crow") -> None:
    """Take mi_crow's own handlers off its loggers and let only warnings through; no bars of transformers.

    Logs here are structured. Trap: mi_crow sets its loggers up again whenever it makes a trainer, but for
    those that have a handler; hence one that does nothing, and a filter in the place of a level.
    """
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    # Its modules name their loggers after themselves, some only when they are first used.
    for name in {*sys.modules, *logging.Logger.manager.loggerDict}:
        if name == package or name.startswith(f"{package}."):
            logger = logging.getLogger(name)
            logger.handlers[:] = [logging.NullHandler()]
            logger.addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Say whether a line is a warning; upstream's trainer also calls a task's own ends errors."""
    from gql_server.compute.worker.context import CancelRequested, TaskError

    own_end = isinstance(sys.exc_info()[1], CancelRequested | TaskError)
    return record.levelno >= logging.WARNING and not own_end


def _import_mi_crow() -> None:
    importlib.import_module("mi_crow.language_model.language_model")
    importlib.import_module("mi_crow.mechanistic.sae.modules.topk_sae")
    importlib.import_module("mi_crow.mechanistic.sae.modules.l1_sae")


# overcomplete uses a function of matplotlib's that warns of its end; nothing here can change that.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_overcomplete()
    _import_mi_crow()
quieten()
