"""Checkpoints that SAE classes of mi_crow or of this server saved; the classes here read them."""

from collections.abc import Mapping
from typing import Any

from gql_server.formats.input_normalizations import INPUT_NORMALIZATIONS, InputNormalization, is_known
from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import CHECKPOINT_SUFFIXES, SourceFiles

STATE, METADATA = "sae_state_dict", "mi_crow_metadata"
OWN_FIELDS = {"sae_class", "n_inputs", "n_latents", "k", "subtracts_bias", "state_dict"}
"""What the classes of this server write."""
NORMALIZATION = "input_normalization"
"""What they write where there is one."""
NO_SAE = "It is no checkpoint of an SAE: name a file that the save() of TopKSae or L1Sae has written."
_MOST = 2**24


def matches(files: SourceFiles) -> bool:
    """Whether a file was named that torch.save wrote of such a class."""
    name = files.checkpoint
    return name is not None and _sizes(files.tensors(name).values) is not None


def describe(files: SourceFiles) -> SaeDescription:
    """Describe a checkpoint. NotRepresentable says why it cannot be taken over."""
    name = files.chosen or files.checkpoint
    if name is None:
        raise NotRepresentable(
            f"Name a checkpoint, a file that ends with {' or '.join(CHECKPOINT_SUFFIXES)}."
        )
    content = files.tensors(name).values
    sizes = _sizes(content)
    if sizes is None:
        raise NotRepresentable(NO_SAE)
    n_latents, n_inputs = _size(sizes, "n_latents"), _size(sizes, "n_inputs")
    k = sizes.get("k")
    k = k if isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= n_latents else None
    sae_class = str(content.get("sae_class", "L1Sae" if k is None else "TopKSae"))[:60]
    return SaeDescription(
        format="MI_CROW",
        architecture=sae_class,
        sae_class=sae_class,
        n_inputs=n_inputs,
        n_latents=n_latents,
        k=k,
        files=(name,),
        weights=None,
        input_normalization=normalization_of(content),
    )


def is_own(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has the fields that a class of this server writes."""
    return content.keys() - {NORMALIZATION} == OWN_FIELDS


def normalization_of(content: Mapping[str, Any]) -> InputNormalization:
    """Return how such a checkpoint's SAE normalizes tokens. NotRepresentable where that is unknown here."""
    found = content.get(NORMALIZATION, "NONE")
    if not is_known(found):
        known = ", ".join(INPUT_NORMALIZATIONS)
        raise NotRepresentable(f"The checkpoint's {NORMALIZATION} is {shown(found)}; it can be {known}.")
    return found


def _sizes(content: Any) -> dict[str, Any] | None:
    """Return what has the sizes in a checkpoint's values; None where it is none of these classes'."""
    if content.keys() >= {STATE, METADATA}:
        metadata = content[METADATA]
        if not isinstance(metadata, dict):
            raise NotRepresentable("The checkpoint's mi_crow_metadata is no dictionary, as save() writes it.")
        return metadata
    return dict(content) if is_own(content) else None


def _size(sizes: dict[str, Any], name: str) -> int:
    value = sizes.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        found = value if isinstance(value, int) and abs(value) < 2**63 else type(value).__name__
        raise NotRepresentable(f"The checkpoint's {name} must be a number from 1 to {_MOST}, not {found}.")
    return value
