"""The SAE classes that this installation knows, by the name under which they are registered.

Packages register classes as Python entry points of the group ``gql_server.sae_classes``: the entry point's
name is what clients say, its value a subclass of mi_crow's ``Sae``. A client never names an import path.
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
from gql_server.protocol.wire import SaeClassDescription

from mi_crow.mechanistic.sae.sae import Sae

log = structlog.get_logger(__name__)

GROUP = "gql_server.sae_classes"
CHECKPOINT = "sae.pt"
BUILT_IN = {
    "TopKSae": "mi_crow.mechanistic.sae.modules.topk_sae:TopKSae",
    "L1Sae": "mi_crow.mechanistic.sae.modules.l1_sae:L1Sae",
    "BiasedTopKSae": "gql_server.compute.saes.affine_saes:BiasedTopKSae",
    "BatchTopKSae": "gql_server.compute.saes.affine_saes:BatchTopKSae",
    "JumpReLUSae": "gql_server.compute.saes.affine_saes:JumpReLUSae",
    "ReLUSae": "gql_server.compute.saes.affine_saes:ReLUSae",
}
"""What the project's own entry points say; so that a source tree that is not installed has them too."""


@dataclass(frozen=True)
class SaeClass:
    """An SAE class and how its SAEs are made, saved and loaded."""

    name: str
    sae_type: type[Sae]
    needs_k: bool
    """Whether its engine fixes how many latents are active per token."""

    @classmethod
    def of(cls, name: str, sae_type: type[Sae]) -> "SaeClass":
        """Describe a class; it needs k where its engine is made with one."""
        parameters = inspect.signature(sae_type._initialize_sae_engine).parameters
        return cls(name, sae_type, needs_k="k" in parameters)

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

    def describe(self) -> list[SaeClassDescription]:
        """Describe all of them, by name."""
        classes = sorted(self._classes.values(), key=lambda sae_class: sae_class.name)
        return [SaeClassDescription(sae_class.name, sae_class.needs_k) for sae_class in classes]


def registry(extra: Mapping[str, type[Sae]] | None = None) -> dict[str, SaeClass]:
    """Import every registered class; one that cannot be imported is left out with a line in the log.

    A name of ours stays ours: what is called TopKSae opens with mi_crow's own class.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    for name in points.keys() & BUILT_IN.keys():
        if points[name].value != BUILT_IN[name]:
            log.warning("SAE class left out", name=name, value=points[name].value, reason="the name is taken")
    points |= {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
    classes: dict[str, SaeClass] = {}
    for name, point in points.items():
        try:
            classes[name] = SaeClass.of(name, _checked(point.load()))
        except Exception as error:
            log.warning("SAE class left out", name=name, value=point.value, reason=repr(error))
    return classes | {name: SaeClass.of(name, sae_type) for name, sae_type in (extra or {}).items()}


def _checked(loaded: object) -> type[Sae]:
    if not (isinstance(loaded, type) and issubclass(loaded, Sae)):
        raise TypeError(f"{loaded!r} is not a subclass of mi_crow's Sae")
    return loaded
