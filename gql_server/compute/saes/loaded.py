"""The SAEs that a worker keeps loaded."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import structlog

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import CHECKPOINT, SaeClasses
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import SaeSource

from mi_crow.mechanistic.sae.concepts.concept_dictionary import ConceptDictionary
from mi_crow.mechanistic.sae.sae import Sae

log = structlog.get_logger(__name__)

Stamp = tuple[int, int]


@dataclass
class _Loaded:
    sae: Sae
    checkpoint: Stamp
    concepts: Stamp | None = None


class Saes:
    """A cache that keeps the SAEs used last; a checkpoint that has changed on disk is read again."""

    def __init__(self, classes: SaeClasses, device: str = "cpu", capacity: int = 4) -> None:
        self._classes = classes
        self._device = device
        self._capacity = capacity
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    def get(self, source: SaeSource) -> Sae:
        """Return an SAE in evaluation mode, without edits, with its concepts attached where there are any.

        TaskError (CONFLICT) where its checkpoint is missing, cannot be read, or has other sizes than the
        source says.
        """
        path = Path(source.directory) / CHECKPOINT
        stamp = _stamp(path)
        if stamp is None:
            raise TaskError(
                f"The checkpoint of SAE {source.id} is missing; train or import it again.", "CONFLICT"
            )
        loaded = self._loaded.get(source.id)
        if loaded is None or loaded.checkpoint != stamp:
            loaded = _Loaded(self._load(source, path), stamp)
            self._loaded[source.id] = loaded
        self._loaded.move_to_end(source.id)
        while len(self._loaded) > self._capacity:
            self._loaded.popitem(last=False)
        _attach_concepts(loaded, Path(source.directory) / "concepts")
        return loaded.sae

    def _load(self, source: SaeSource, path: Path) -> Sae:
        sae_class = self._classes.get(source.sae_class)
        try:
            sae = sae_class.load(path, self._device)
        except Exception as error:
            log.warning("SAE checkpoint cannot be read", sae_id=source.id, error=repr(error))
            reason = f"The checkpoint of SAE {source.id} cannot be read as {source.sae_class}."
            raise TaskError(reason, "CONFLICT") from error
        found = (sae.context.n_inputs, sae.context.n_latents)
        if found != (source.n_inputs, source.n_latents):
            raise TaskError(
                f"The checkpoint of SAE {source.id} has {found[1]} neurons over {found[0]} inputs, "
                f"not {source.n_latents} over {source.n_inputs}.",
                "CONFLICT",
            )
        # What a hook of mi_crow's is called; sentences about the SAE say it.
        sae.id = source.id
        return sae


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _attach_concepts(loaded: _Loaded, directory: Path) -> None:
    """Attach mi_crow's ConceptDictionary anew where the file has changed; names never stop a computation."""
    stamp = _stamp(directory / "concepts.json")
    if stamp == loaded.concepts:
        return
    loaded.concepts = stamp
    loaded.sae.concepts.dictionary = None
    if stamp is None:
        return
    dictionary = ConceptDictionary(n_size=loaded.sae.context.n_latents)
    try:
        dictionary.load(directory)
    except (ValueError, TypeError, KeyError, OSError) as error:
        log.warning("concepts left out", path=str(directory), error=repr(error))
    else:
        loaded.sae.attach_dictionary(dictionary)
