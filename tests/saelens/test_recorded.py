"""SAEs that went from here to sae-lens, and from there to here, compute the same in both places.

What sae-lens makes of them is recorded, since it needs an environment of its own: ``make recordings``.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.formats.sae_lens import SAE_LENS_VERSION
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.encoding import decode
from gql_server.formats.input_normalizations import IN_SAE_LENS
from gql_server.formats.sae_classes import EXPORTED_AS
from gql_server.protocol.results import ImportResult
from gql_server.protocol.tasks import ImportSae
from tests.compute.conftest import RecordingContext
from tests.saelens.cases import CLASSES, N_LATENTS, K, export, make, unpack
from tests.saelens.recorded_files import FILES, RECORDED

from mi_crow.mechanistic.sae.sae import Sae

TOLERANCE = 1e-4
MADE = {
    "standard": ("ReLUSae", None, True),
    "standard_without_input_bias": ("ReLUSae", None, False),
    "standard_in_bfloat16": ("ReLUSae", None, True),
    "topk_with_rescaling": ("BiasedTopKSae", K, True),
    "topk_without_rescaling": ("BiasedTopKSae", K, True),
    "topk_of_version_5": ("BiasedTopKSae", K, True),
    "jumprelu": ("JumpReLUSae", None, False),
    "topk_on_prompts": ("BiasedTopKSae", K, True),
    "jumprelu_on_prompts": ("JumpReLUSae", None, False),
    "gated": ("GatedSae", None, True),
    "gated_on_prompts": ("GatedSae", None, False),
    "standard_with_layer_norm": ("ReLUSae", None, True),
    "topk_with_layer_norm_on_prompts": ("BiasedTopKSae", K, True),
    "jumprelu_with_constant_norm": ("JumpReLUSae", None, True),
    "gated_with_constant_norm": ("GatedSae", None, True),
}


def imported(source: Path, directory: Path) -> tuple[ImportResult, Sae]:
    """Import a SAELens directory, and load what came of it."""
    task = ImportSae(
        sae_id="sae_1",
        name="imported",
        language_model_id="lm_1",
        layer="m_layers_0",
        kind="BLOCK",
        depth=0,
        n_inputs=json.loads((source / "cfg.json").read_text())["d_in"],
        max_latents=N_LATENTS,
        format="SAE_LENS",
        source=source.name,
        files={name: str(source / name) for name in FILES},
        roots=[str(source)],
        sae_dir=str(directory),
    )
    classes = SaeClasses()
    result = import_sae(task, RecordingContext(), classes)
    return result, classes.get(result.sae_class).load(directory / "sae.pt")


def assert_computes(sae: Sae, said: dict[str, Tensor]) -> None:
    with torch.no_grad():
        latents = sae.encode(said["inputs"])
        reconstructions = decode(sae, latents, of=said["inputs"])
    assert float((latents - said["latents"]).abs().max()) < TOLERANCE
    assert float((reconstructions - said["reconstructions"]).abs().max()) < TOLERANCE
    assert torch.equal(latents != 0, said["latents"] != 0)
    assert 1 < float((latents != 0).float().sum(dim=1).mean()) < N_LATENTS - 1


@pytest.mark.parametrize("name", sorted(MADE))
def test_what_sae_lens_made_computes_the_same_here(name: str, tmp_path: Path) -> None:
    source = RECORDED / "made" / name
    result, sae = imported(source, tmp_path / "sae")
    sae_class, k, subtracts_bias = MADE[name]
    said = load_file(source / "said.safetensors")
    n_inputs = said["inputs"].shape[1]
    assert (result.sae_class, result.n_inputs, result.n_latents) == (sae_class, n_inputs, N_LATENTS)
    assert result.k == k
    cfg = json.loads((source / "cfg.json").read_text())
    assert IN_SAE_LENS[result.input_normalization] == (cfg["normalize_activations"] or "none")
    assert sae.sae_engine.subtracts_bias is subtracts_bias
    assert_computes(sae, said)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_exported_computed_the_same_in_sae_lens(name: str) -> None:
    assert_computes(make(name), load_file(RECORDED / "exported" / name / "said.safetensors"))


@pytest.mark.parametrize("name", CLASSES)
def test_exports_still_are_what_was_recorded(name: str, tmp_path: Path) -> None:
    export(name, tmp_path / "export.zip")
    now, then = unpack(tmp_path / "export.zip", tmp_path / "now"), RECORDED / "exported" / name
    assert json.loads((now / "cfg.json").read_text()) == json.loads((then / "cfg.json").read_text())
    tensors, recorded = (load_file(path / "sae_weights.safetensors") for path in (now, then))
    assert tensors.keys() == recorded.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, recorded[key], rtol=1e-6, atol=1e-6)
    assert {path.name for path in now.iterdir()} == {"cfg.json", "sae_weights.safetensors"}


@pytest.mark.parametrize("name", CLASSES)
def test_an_export_that_is_imported_again_computes_the_same(name: str, tmp_path: Path) -> None:
    source = RECORDED / "exported" / name
    _, sae = imported(source, tmp_path / "sae")
    assert_computes(sae, load_file(source / "said.safetensors"))


def test_there_is_a_recording_of_every_class_that_can_be_exported() -> None:
    assert set(CLASSES) == set(EXPORTED_AS) == {path.name for path in (RECORDED / "exported").iterdir()}


def test_the_recordings_are_of_the_version_whose_format_is_written() -> None:
    def version(path: Path) -> Any:
        return json.loads(path.read_text()).get("metadata", {}).get("sae_lens_version")

    versions = {version(path) for path in RECORDED.glob("*/*/cfg.json")}
    assert versions - {None} == {SAE_LENS_VERSION}
    pinned = (Path(__file__).parents[2] / "requirements" / "sae-lens.txt").read_text().splitlines()
    assert f"sae-lens=={SAE_LENS_VERSION}" in pinned
