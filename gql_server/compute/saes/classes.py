"""The SAE classes that this installation knows, by the name under which they are registered.

Those of formats/sae_classes.py, and what other packages register as Python entry points of the group
``gql_server.sae_classes``: the entry point's name is what clients say, its value a subclass of mi_crow's
``Sae``. A client never names an import path.
"""

import inspect
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import structlog
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.torch_files import check_sums
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_classes import BUILT_IN
from gql_server.protocol.wire import SaeClassDescription

from mi_crow.mechanistic.sae.sae import Sae

log = structlog.get_logger(__name__)

GROUP = "gql_server.sae_classes"
CHECKPOINT = "sae.pt"


@dataclass(frozen=True)
class SaeClass:
    """An SAE class and how its SAEs are made, saved and loaded."""

    name: str
    sae_type: type[Sae]

    @property
    def _k_parameter(self) -> inspect.Parameter | None:
        return inspect.signature(self.sae_type._initialize_sae_engine).parameters.get("k")

    @property
    def needs_k(self) -> bool:
        """Whether its engine is made with k, a number of active latents per token."""
        return self._k_parameter is not None

    @property
    def description(self) -> str:
        """What the server says of it or, of another package's, the first paragraph of its docstring."""
        if self.name in BUILT_IN:
            return BUILT_IN[self.name].description
        return " ".join((inspect.getdoc(self.sae_type) or "").partition("\n\n")[0].split())

    def accepts(self, k: int | None) -> bool:
        """Whether a trained SAE of the class can have this k; none where the engine's default is None."""
        if k is None:
            return self._k_parameter is None or self._k_parameter.default is None
        return self._k_parameter is not None

    def build(self, n_latents: int, n_inputs: int, k: int | None, device: str) -> Sae:
        """Make an untrained SAE; its random weights come from torch's global generator."""
        sae = self.sae_type(n_latents=n_latents, n_inputs=n_inputs, device=device)
        if self.needs_k:
            # Trap: TopKSae makes its engine with k=1, whatever it is asked for.
            sae.sae_engine = sae._initialize_sae_engine(k=k)
        _clear_edits(sae)
        return sae

    def save(self, sae: Sae, directory: Path, k: int | None = None) -> Path:
        """Write sae.pt by the SAE's own save(), from the CPU, where it stays; return the path."""
        # Trap: what is saved on CUDA says so, and does not load where there is none.
        place(sae, "cpu")
        parameters = inspect.signature(sae.save).parameters
        options: dict[str, Any] = {"k": k} if "k" in parameters else {}
        if "path" in parameters:
            sae.save(Path(CHECKPOINT).stem, path=directory, **options)
        else:
            sae.save(str(directory / Path(CHECKPOINT).stem), **options)
        path = directory / CHECKPOINT
        if not path.is_file():
            raise TaskError(
                f"SAE class {self.name} saved no {CHECKPOINT}: its save() must write <path>/<name>.pt."
            )
        return path

    def load(self, path: Path, device: str = "cpu") -> Sae:
        """Read a checkpoint by the class's own load(), without edits, ready to encode.

        Tensors only (``weights_only``, torch's default, which mi_crow keeps). Raises BadZipFile where the
        file is damaged, and whatever load() raises.
        """
        if zipfile.is_zipfile(path):  # As torch.save makes it; a class may save in another way.
            check_sums(path)
        sae: Sae = self.sae_type.load(path)
        _clear_edits(sae)
        sae.sae_engine.requires_grad_(False)
        place(sae, device)
        return sae


def place(sae: Sae, device: str) -> None:
    """Move an SAE to a device and leave it in evaluation mode with its dictionary as its weights are now."""
    with torch.no_grad():
        sae.sae_engine.to(device)
        sae.context.device = device
        # Trap: .eval() keeps a fused dictionary from before where the engine is in evaluation mode already.
        sae.sae_engine.train()
        sae.sae_engine.eval()


def _clear_edits(sae: Sae) -> None:
    """Make the SAE's own edits none: trap, concepts.bias starts as ones and is added to every latent."""
    sae.concepts.multiplication.data.fill_(1.0)
    sae.concepts.bias.data.zero_()


class SaeClasses:
    """The classes by name. ``extra`` adds classes beside those that are registered."""

    def __init__(self, extra: Mapping[str, type[Sae]] | None = None) -> None:
        self._classes = registry(extra)

    def get(self, name: str) -> SaeClass:
        """Return a class; TaskError (INVALID, saeClass) where there is none of that name."""
        try:
            return self._classes[name]
        except KeyError:
            known = ", ".join(sorted(self._classes))
            reason = f"There is no SAE class {name!r} here; there are {known}."
            raise TaskError(reason, "INVALID", ("saeClass",)) from None

    def names_of(self, base: type[Sae]) -> list[str]:
        """Return the sorted names of the classes derived from a base."""
        return sorted(name for name, found in self._classes.items() if issubclass(found.sae_type, base))

    def describe(self) -> list[SaeClassDescription]:
        """Describe all of them, by name."""
        classes = sorted(self._classes.values(), key=lambda sae_class: sae_class.name)
        return [
            SaeClassDescription(sae_class.name, sae_class.needs_k, sae_class.description)
            for sae_class in classes
        ]


def registry(extra: Mapping[str, type[Sae]] | None = None) -> dict[str, SaeClass]:
    """Import every built-in and registered class; one that cannot be is left out with a line in the log."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    for name, built_in in BUILT_IN.items():
        if name in points and points[name].value != built_in.path:
            log.warning("SAE class left out", name=name, value=points[name].value, reason="the name is taken")
        points[name] = EntryPoint(name, built_in.path, GROUP)
    classes: dict[str, SaeClass] = {}
    for name, point in points.items():
        try:
            found = SaeClass(name, _checked(point.load()))
            found.needs_k  # Told of every class, so it must not fail later.  # noqa: B018
            classes[name] = found
        except Exception as error:
            log.warning("SAE class left out", name=name, value=point.value, reason=repr(error))
    return classes | {name: SaeClass(name, sae_type) for name, sae_type in (extra or {}).items()}


def _checked(loaded: object) -> type[Sae]:
    if not (isinstance(loaded, type) and issubclass(loaded, Sae)):
        raise TypeError(f"{loaded!r} is not a subclass of mi_crow's Sae")
    return loaded
