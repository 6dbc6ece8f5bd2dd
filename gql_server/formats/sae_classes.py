"""The SAE classes that the server brings, as far as they can be described without importing torch.

Everything else about a class is said by its engine: gql_server/compute/saes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltInClass:
    """A class whose checkpoints ``torch.save`` makes, so they are ZIP files."""

    path: str
    """Where it is imported from, as an entry point says it."""
    architecture: str | None
    """What it is exported as: SAELens' name of what it computes; None where SAELens has none."""
    is_imported: bool = False
    """Whether SAELens' SAEs of that architecture become SAEs of this class."""


BUILT_IN = {
    "L1Sae": BuiltInClass("mi_crow.mechanistic.sae.modules.l1_sae:L1Sae", "standard"),
    "ReLUSae": BuiltInClass("gql_server.compute.saes.affine_saes:ReLUSae", "standard", is_imported=True),
    "TopKSae": BuiltInClass("mi_crow.mechanistic.sae.modules.topk_sae:TopKSae", "topk"),
    "BiasedTopKSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:BiasedTopKSae", "topk", is_imported=True
    ),
    "BatchTopKSae": BuiltInClass("gql_server.compute.saes.affine_saes:BatchTopKSae", "jumprelu"),
    "JumpReLUSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:JumpReLUSae", "jumprelu", is_imported=True
    ),
}
"""By name. A name of ours stays ours, whatever another package registers."""

EXPORTED_AS = {name: found.architecture for name, found in BUILT_IN.items() if found.architecture}
"""The architecture that a class becomes."""
IMPORTED_AS = {EXPORTED_AS[name]: name for name, found in BUILT_IN.items() if found.is_imported}
"""The class that an architecture becomes."""
