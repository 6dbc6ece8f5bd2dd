"""The SAE classes that the server brings, as far as they can be described without importing torch.

Everything else about a class is said by its engine: gql_server/compute/saes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltInClass:
    """A class whose checkpoints ``torch.save`` makes, so they are ZIP files."""

    path: str
    """Where it is imported from, as an entry point says it."""
    description: str
    """Which latents it keeps, and what it is for, in a sentence or two for people."""
    architecture: str | None
    """What it is exported as: SAELens' name of what it computes; None where SAELens has none."""
    is_imported: bool = False
    """Whether SAELens' SAEs of that architecture become SAEs of this class."""


RECOMMENDED = "BatchTopKSae"
"""The class of an SAE where a request names none; docs/training.md says why."""

NESTED = "BatchTopKSae"
"""The class whose neurons can be trained in nested groups (Bussmann et al. 2025, Matryoshka SAEs); what comes
of that is an SAE of the class."""

BUILT_IN = {
    "L1Sae": BuiltInClass(
        "mi_crow.mechanistic.sae.modules.l1_sae:L1Sae",
        "All latents above 0, kept few by l1Lambda; without a decoder bias. mi_crow's own.",
        "standard",
    ),
    "ReLUSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:ReLUSae",
        "All latents above 0, kept few by l1Lambda (Bricken et al. 2023).",
        "standard",
        is_imported=True,
    ),
    "TopKSae": BuiltInClass(
        "mi_crow.mechanistic.sae.modules.topk_sae:TopKSae",
        "The k largest latents of each token; without a decoder bias. mi_crow's own: take it where a"
        " checkpoint must open with mi_crow alone.",
        "topk",
    ),
    "BiasedTopKSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:BiasedTopKSae",
        "The k largest latents of each token (Gao et al. 2024): take it where every token must have"
        " exactly k.",
        "topk",
        is_imported=True,
    ),
    RECOMMENDED: BuiltInClass(
        "gql_server.compute.saes.affine_saes:BatchTopKSae",
        "k latents per token on average: the largest of a batch, then all above one threshold (Bussmann et"
        " al. 2024). Describes activations best for its k, and leaves hardly a neuron dead.",
        "jumprelu",
    ),
    "JumpReLUSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:JumpReLUSae",
        "All latents above thresholds of their own, drawn to k per token (Rajamanoharan et al. 2024).",
        "jumprelu",
        is_imported=True,
    ),
    "GatedSae": BuiltInClass(
        "gql_server.compute.saes.affine_saes:GatedSae",
        "All latents whose gate is open, as large as a second path says; l1Lambda keeps gates closed"
        " (Rajamanoharan et al. 2024, Gated SAEs).",
        "gated",
        is_imported=True,
    ),
}
"""By name. A name of ours stays ours, whatever another package registers."""

EXPORTED_AS = {name: found.architecture for name, found in BUILT_IN.items() if found.architecture}
"""The architecture that a class becomes."""
IMPORTED_AS = {EXPORTED_AS[name]: name for name, found in BUILT_IN.items() if found.is_imported}
"""The class that an architecture becomes."""
