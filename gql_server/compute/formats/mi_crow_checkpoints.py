"""Checkpoints that others name: read as tensors and plain values alone, and every field checked.

No unpickler sees the file, not even torch's (``weights_only``): formats/sae_sources reads what it describes,
and a tensor's bytes are read once its shape is the one that the SAE's sizes give.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gql_server.compute.formats.checkpoint_files import TorchFile, opened
from gql_server.compute.formats.refusals import as_task_errors
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.saes.classes import SaeClass, SaeClasses
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.mi_crow import METADATA, NO_SAE, STATE, is_own, normalization_of
from gql_server.formats.sae_sources.pickles import StoredTensor

from mi_crow.mechanistic.sae.sae import Sae

_TRAINER_ROOTS = ("model", "model_epoch_")
_LARGEST_EXPONENT = 80.0
"""Limit on the dictionary's multiplier: its exponential still fits into a float32."""


@dataclass(frozen=True)
class Checkpoint:
    """An SAE that was read from a checkpoint, and what there is to say of that."""

    sae_class: str
    sae: Sae
    k: int | None
    notes: list[str]


def read_checkpoint(path: Path, classes: SaeClasses, n_inputs: int | None, max_latents: int) -> Checkpoint:
    """Read a checkpoint as the save() of TopKSae, L1Sae or a class of ours writes it.

    Args:
        path: The file; nobody else writes to it.
        classes: Makes the SAE.
        n_inputs: Width of the layer, where it is known.
        max_latents: The most neurons that it may have.

    Raises:
        TaskError: It says what is wrong with the file.
    """
    with opened(path) as file:
        content = file.content
        if isinstance(content, dict) and content.keys() >= {STATE, METADATA}:
            return _mi_crow(file, classes, n_inputs, max_latents)
        if isinstance(content, dict) and is_own(content):
            return _affine(file, classes, n_inputs, max_latents)
    raise TaskError(NO_SAE)


def _mi_crow(file: TorchFile, classes: SaeClasses, n_inputs: int | None, max_latents: int) -> Checkpoint:
    metadata = file.content[METADATA]
    if not isinstance(metadata, dict):
        raise TaskError("The checkpoint's mi_crow_metadata is no dictionary, as save() writes it.")
    if "k" not in metadata and file.root.startswith(_TRAINER_ROOTS):
        raise TaskError(
            "It is mi_crow's own training output, which leaves out the k of a TopKSae: save the SAE with"
            " sae.save(name, path), and import that."
        )
    sizes = _sizes(metadata, n_inputs, max_latents)
    k = _whole_number(metadata, "k", sizes[0]) if "k" in metadata else None
    name = "L1Sae" if k is None else "TopKSae"
    sae = _filled(file, STATE, classes.get(name), sizes, k)
    notes = ["The checkpoint names no k, so it is an L1Sae's."] if k is None else []
    return Checkpoint(name, sae, k, notes + _notes_of_edits(file, metadata.get("concepts_state"), sizes[0]))


def _affine(file: TorchFile, classes: SaeClasses, n_inputs: int | None, max_latents: int) -> Checkpoint:
    content = file.content
    name = content["sae_class"]
    known = classes.names_of(AffineSae)
    if name not in known:
        raise TaskError(f"The checkpoint is of another class than {', '.join(known)}.")
    if not isinstance(content["subtracts_bias"], bool):
        raise TaskError("The checkpoint's subtracts_bias is neither true nor false.")
    with as_task_errors():
        how = normalization_of(content)
    sizes = _sizes(content, n_inputs, max_latents)
    k = None if content["k"] is None else _whole_number(content, "k", sizes[0])
    sae_class = classes.get(name)
    if not sae_class.accepts(k):
        raise TaskError(f"The checkpoint's k, {k}, does not go with its class {name}.")
    sae = _filled(file, "state_dict", sae_class, sizes, k)
    sae.sae_engine.subtracts_bias = content["subtracts_bias"]
    sae.sae_engine.input_normalization = how
    return Checkpoint(name, sae, k, [])


def _sizes(metadata: Mapping[str, Any], n_inputs: int | None, max_latents: int) -> tuple[int, int]:
    """Return n_latents and n_inputs, both within their limits."""
    n_latents = _whole_number(metadata, "n_latents", max_latents)
    found = _whole_number(metadata, "n_inputs", 2**24)
    if n_inputs is not None and found != n_inputs:
        raise TaskError(f"The SAE is for activations of width {found}; the layer's are {n_inputs} wide.")
    return n_latents, found


def _whole_number(metadata: Mapping[str, Any], name: str, most: int) -> int:
    value = metadata.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        shown = value if isinstance(value, int) and abs(value) < 2**63 else type(value).__name__
        raise TaskError(f"The checkpoint's {name} must be a number from 1 to {most}, not {shown}.")
    return value


def _filled(file: TorchFile, where: str, sae_class: SaeClass, sizes: tuple[int, int], k: int | None) -> Sae:
    """Make an SAE with the tensors of a checkpoint, after a check of their shapes."""
    name, state = sae_class.name, file.content[where]
    if not isinstance(state, dict):
        raise TaskError("The checkpoint has no dictionary of tensors, as save() writes it.")
    wanted = _shapes(sae_class, *sizes)
    if state.keys() != wanted.keys():
        raise TaskError(f"The checkpoint's tensors are not those of {name}, which has {', '.join(wanted)}.")
    tensors = {key: _checked(file, key, state[key], shape) for key, shape in wanted.items()}
    if float(tensors.get("dictionary.multiplier", torch.zeros(()))) > _LARGEST_EXPONENT:
        raise TaskError("The tensor dictionary.multiplier is too large: its exponential is infinite.")
    sae = sae_class.build(*sizes, k, "cpu")
    if engine_of(sae) is None:
        raise TaskError(f"The class registered as {name} here is not the one that wrote the checkpoint.")
    sae.sae_engine.load_state_dict(tensors)
    return sae


def _shapes(sae_class: SaeClass, n_latents: int, n_inputs: int) -> dict[str, list[int]]:
    """Return the shapes of an engine's tensors: of a tiny one, with its sizes replaced."""
    tiny = sae_class.build(3, 2, 1, "cpu").sae_engine.state_dict()
    sizes = {3: n_latents, 2: n_inputs}
    return {key: [sizes[size] for size in tensor.shape] for key, tensor in tiny.items()}


def _checked(file: TorchFile, name: str, stored: Any, shape: list[int]) -> Tensor:
    if not isinstance(stored, StoredTensor):
        raise TaskError(f"What the checkpoint calls {name} is no plain tensor.")
    if list(stored.shape) != shape:
        raise TaskError(f"The tensor {name} has the shape {list(stored.shape)}; its sizes say {shape}.")
    if stored.dtype != "float32":
        raise TaskError(f"The tensor {name} is {stored.dtype}, not float32.")
    return file.tensor(stored, name)


def _notes_of_edits(file: TorchFile, concepts: Any, n_latents: int) -> list[str]:
    """Return a note on a checkpoint's own edits, which are not taken over: concept configs have them here."""
    if not isinstance(concepts, dict):
        return []
    shape = [n_latents]
    multiplication = _checked(file, "multiplication", concepts.get("multiplication"), shape)
    bias = _checked(file, "bias", concepts.get("bias"), shape)
    # Trap: mi_crow takes a bias of ones, which it begins with, for none; only beside multipliers of 1.
    untouched = bool((multiplication == 1).all()) and bool((bias == 1).all())
    edited = int(((multiplication != 1) | (bias != 0)).sum())
    if untouched or not edited:
        return []
    return [
        f"The checkpoint's edits (multiplication, bias) of {edited:,} of its neurons are not taken over:"
        " save them as a concept config to steer by them."
    ]
