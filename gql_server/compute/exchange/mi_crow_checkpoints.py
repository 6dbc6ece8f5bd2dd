"""Checkpoints that others name: read as tensors and plain values alone, and every field checked.

torch's unpickler for weights (``weights_only``) runs no code that a file brings. Before it sees the file,
what the pickle refers to is looked up in a list of what such a checkpoint has: so that a file with anything
else is refused by name, and none of torch's other ways to make a tensor is open.
"""

import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gql_server.compute.context import TaskError
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.linear_engine import has_linear_engine
from gql_server.compute.saes.weights import check_finite

from mi_crow.mechanistic.sae.sae import Sae

MAX_PICKLE_BYTES = 1024 * 1024
MAX_ENTRIES = 100
_STORAGES = ("FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage")
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {storage}" for storage in _STORAGES),
}
"""All that a checkpoint's pickle refers to by name."""
_REFUSED_OPCODES = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Ways to refer to something that torch.save does not use."""
_UNREADABLE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_TRAINER_ROOTS = ("model", "model_epoch_")
_AFFINE_KEYS = {"sae_class", "n_inputs", "n_latents", "k", "subtracts_bias", "state_dict"}
_MI_CROW_KEYS = {"sae_state_dict", "mi_crow_metadata"}
_LARGEST_EXPONENT = 80.0
"""exp of it is a float32."""


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
    root = _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged file makes it stumble over.
        raise TaskError("The checkpoint is damaged: torch cannot read its tensors.") from error
    if isinstance(content, dict) and content.keys() >= _MI_CROW_KEYS:
        return _mi_crow(content, root, classes, n_inputs, max_latents)
    if isinstance(content, dict) and content.keys() == _AFFINE_KEYS:
        return _affine(content, classes, n_inputs, max_latents)
    raise TaskError(
        "It is no checkpoint of an SAE: name a file that the save() of TopKSae or L1Sae has written."
    )


def _check_archive(path: Path) -> str:
    """Look at the file without unpickling it; return the name that it was saved under."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES or any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                raise TaskError("The checkpoint is packed in a way in which torch.save does not.")
            pickles = [one for one in entries if one.filename.endswith(".pkl")]
            if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
                raise TaskError("The checkpoint is no file of tensors, as torch.save writes it.")
            if pickles[0].file_size > MAX_PICKLE_BYTES:
                raise TaskError("The checkpoint describes more than the few tensors of an SAE.")
            _check_pickle(archive.read(pickles[0]))
            if (damaged := archive.testzip()) is not None:
                raise TaskError(f"The checkpoint is damaged, in {damaged[:100]!a}.")
            return pickles[0].filename.rpartition("/")[0]
    except _UNREADABLE as error:
        raise TaskError("It is no checkpoint as torch.save has written it since version 1.6.") from error


def _check_pickle(content: bytes) -> None:
    """Raise TaskError where a pickle refers to anything but what tensors are made of."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL" and argument not in _ALLOWED:
                raise TaskError(
                    f"The checkpoint holds more than tensors: it refers to {str(argument)[:80]!a}. Nothing of"
                    " it was run; name a file that the save() of an SAE has written."
                )
            if opcode.name in _REFUSED_OPCODES:
                raise TaskError("The checkpoint holds more than tensors. Nothing of it was run.")
    except TaskError:
        raise
    except Exception as error:
        raise TaskError("The checkpoint is damaged: its description of the tensors ends early.") from error


def _mi_crow(
    content: Mapping[str, Any], root: str, classes: SaeClasses, n_inputs: int | None, max_latents: int
) -> Checkpoint:
    metadata = content["mi_crow_metadata"]
    if not isinstance(metadata, dict):
        raise TaskError("The checkpoint's mi_crow_metadata is no dictionary, as save() writes it.")
    if "k" not in metadata and root.startswith(_TRAINER_ROOTS):
        raise TaskError(
            "It is mi_crow's own training output, which leaves out the k of a TopKSae: save the SAE with"
            " sae.save(name, path), and import that."
        )
    sizes = _sizes(metadata, n_inputs, max_latents)
    k = _whole_number(metadata, "k", sizes[0]) if "k" in metadata else None
    name = "L1Sae" if k is None else "TopKSae"
    sae = _filled(classes, name, sizes, k, content["sae_state_dict"])
    notes = ["The checkpoint names no k, so it is an L1Sae's."] if k is None else []
    return Checkpoint(name, sae, k, notes + _notes_of_edits(metadata.get("concepts_state"), sizes[0]))


def _affine(
    content: Mapping[str, Any], classes: SaeClasses, n_inputs: int | None, max_latents: int
) -> Checkpoint:
    name = content["sae_class"]
    known = {cls.__name__ for cls in AffineSae.__subclasses__()}
    if not isinstance(name, str) or name not in known:
        raise TaskError(f"The checkpoint is of another class than {', '.join(sorted(known))}.")
    if not isinstance(content["subtracts_bias"], bool):
        raise TaskError("The checkpoint's subtracts_bias is neither true nor false.")
    sizes = _sizes(content, n_inputs, max_latents)
    # ReLUSae has none; JumpReLUSae may have one that its training aimed at.
    k = None if content["k"] is None else _whole_number(content, "k", sizes[0])
    if (k is None and name in ("BiasedTopKSae", "BatchTopKSae")) or (k is not None and name == "ReLUSae"):
        raise TaskError(f"The checkpoint's k, {k}, does not go with its class {name}.")
    sae = _filled(classes, name, sizes, k, content["state_dict"])
    sae.sae_engine.subtracts_bias = content["subtracts_bias"]
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


def _filled(classes: SaeClasses, name: str, sizes: tuple[int, int], k: int | None, state: Any) -> Sae:
    """Make an SAE with the tensors of a checkpoint, whose shapes are looked at before it is made."""
    if not isinstance(state, dict):
        raise TaskError("The checkpoint has no dictionary of tensors, as save() writes it.")
    sae_class = classes.get(name)
    wanted = _shapes(name, *sizes, classes)
    if state.keys() != wanted.keys():
        raise TaskError(f"The checkpoint's tensors are not those of {name}, which has {', '.join(wanted)}.")
    tensors = {key: _checked(key, state[key], shape) for key, shape in wanted.items()}
    if float(tensors.get("dictionary.multiplier", torch.zeros(()))) > _LARGEST_EXPONENT:
        raise TaskError("The tensor dictionary.multiplier is too large: its exponential is infinite.")
    sae = sae_class.build(*sizes, k, "cpu")
    if not has_linear_engine(sae) and not isinstance(sae, AffineSae):
        raise TaskError(f"The class registered as {name} here is not the one that wrote the checkpoint.")
    sae.sae_engine.load_state_dict(tensors)
    return sae


def _shapes(name: str, n_latents: int, n_inputs: int, classes: SaeClasses) -> dict[str, list[int]]:
    """Return the shapes of an engine's tensors: of a tiny one, with its sizes replaced."""
    tiny = classes.get(name).build(3, 2, 1, "cpu").sae_engine.state_dict()
    sizes = {3: n_latents, 2: n_inputs}
    return {key: [sizes[size] for size in tensor.shape] for key, tensor in tiny.items()}


def _checked(name: str, tensor: Any, shape: list[int]) -> Tensor:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_contiguous():
        raise TaskError(f"What the checkpoint calls {name} is no plain tensor.")
    if list(tensor.shape) != shape:
        raise TaskError(f"The tensor {name} has the shape {list(tensor.shape)}; its sizes say {shape}.")
    if tensor.dtype != torch.float32:
        raise TaskError(f"The tensor {name} is {str(tensor.dtype).removeprefix('torch.')}, not float32.")
    check_finite(name, tensor)
    return tensor.detach()


def _notes_of_edits(concepts: Any, n_latents: int) -> list[str]:
    """Tell of a checkpoint's own edits, which are not taken over: here, edits are concept configs."""
    if not isinstance(concepts, dict):
        return []
    shape = [n_latents]
    multiplication = _checked("multiplication", concepts.get("multiplication"), shape)
    bias = _checked("bias", concepts.get("bias"), shape)
    # Trap: mi_crow takes a bias of ones, which it begins with, for none; only beside multipliers of 1.
    untouched = bool((multiplication == 1).all()) and bool((bias == 1).all())
    edited = int(((multiplication != 1) | (bias != 0)).sum())
    if untouched or not edited:
        return []
    return [
        f"The checkpoint's edits (multiplication, bias) of {edited:,} of its neurons are not taken over:"
        " save them as a concept config to steer by them."
    ]
