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


TARGETS = {
    "SAE_LENS": Target("SAELens", EXPORTED_AS.keys()),
    "DICTIONARY_LEARNING": Target(
        "dictionary_learning",
        {"L1Sae", "ReLUSae", "TopKSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae"},
    ),
    "SPARSIFY": Target("sparsify", {"TopKSae", "BiasedTopKSae"}),
}
"""By the format's name."""


NEURONS = {"NEURONPEDIA": "for Neuronpedia", "PARQUET": "as Parquet"}
"""Formats of an SAE's neurons, whatever its class, and how they end a title."""


def problem(format: str, sae_class: str | None) -> str | None:
    """Return why SAEs of a class cannot be written in a format, and what can be done; None where they can."""
    target = TARGETS[format]
    if sae_class in target.classes:
        return None
    others = [one.library for one in TARGETS.values() if sae_class in one.classes]
    known = ", ".join(name for name in EXPORTED_AS if name in target.classes)
    advice = f"export it for {' or '.join(others)}" if others else f"{known} can be exported"
    return f"{target.library} has no architecture for the class {sae_class}; {advice}."
