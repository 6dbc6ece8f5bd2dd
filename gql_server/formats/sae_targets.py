"""The formats of other libraries in which SAEs are written, and which classes each can say exactly."""

from collections.abc import Set
from dataclasses import dataclass

from gql_server.formats.sae_classes import EXPORTED_AS


@dataclass(frozen=True)
class Target:
    """A format that another library reads."""

    library: str
    """What people call the library."""
    classes: Set[str]
    """Classes here whose computation it has."""
    normalizes: bool = False
    """Whether its SAEs may normalize each token's input."""


TARGETS = {
    "SAE_LENS": Target("SAELens", EXPORTED_AS.keys(), normalizes=True),
    "DICTIONARY_LEARNING": Target(
        "dictionary_learning",
        {"L1Sae", "ReLUSae", "TopKSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae", "GatedSae"},
    ),
    "SPARSIFY": Target("sparsify", {"TopKSae", "BiasedTopKSae"}),
}
"""By the format's name."""


NEURONS = {"NEURONPEDIA": "for Neuronpedia", "PARQUET": "as Parquet"}
"""Formats of an SAE's neurons, whatever its class, and how they end a title."""


def problem(format: str, sae_class: str | None, input_normalization: str | None) -> str | None:
    """Return why an SAE cannot be written in a format, and what can be done; None where it can.

    Args:
        format: A key of TARGETS.
        sae_class: Its class.
        input_normalization: How it normalizes each token's input; None or NONE where it does not.
    """
    target = TARGETS[format]
    if input_normalization not in (None, "NONE") and not target.normalizes:
        able = " or ".join(one.library for one in TARGETS.values() if one.normalizes)
        return f"{target.library} has no SAEs that normalize each token's input; export it for {able}."
    if sae_class in target.classes:
        return None
    others = [one.library for one in TARGETS.values() if sae_class in one.classes]
    known = ", ".join(name for name in EXPORTED_AS if name in target.classes)
    advice = f"export it for {' or '.join(others)}" if others else f"{known} can be exported"
    return f"{target.library} has no architecture for the class {sae_class}; {advice}."
