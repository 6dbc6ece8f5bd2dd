"""SAEs that other packages wrote compute here what those packages computed of them.

What they compute is recorded, since each needs an environment of its own: ``make recordings``.
"""

from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from gql_server.compute.saes.encoding import skipped
from gql_server.formats.sae_sources import dictionary_learning
from tests.compute.formats.published import assert_computes, found, imported
from tests.published.recording import RECORDED, SAID
from tests.published.weights import N_INPUTS

DIRECTORIES = sorted(path.parent for path in RECORDED.rglob(SAID))
FORMATS = {
    "sae_lens": "SAE_LENS",
    "dictionary_learning": "DICTIONARY_LEARNING",
    "sparsify": "SPARSIFY",
    "llamascopium": "LLAMASCOPIUM",
}
WRITTEN = {"output_layer": "m_layers_0_mlp", "output_kind": "MLP", "output_depth": 0, "n_outputs": N_INPUTS}
"""Where transcoders write."""


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: str(path.relative_to(RECORDED)))
def test_it_computes_what_its_own_package_does(directory: Path, tmp_path: Path) -> None:
    said = {name: array.astype(float) for name, array in load_file(directory / SAID).items()}
    written = WRITTEN if directory.relative_to(RECORDED).parts[1].startswith("transcoder") else {}
    one = imported(directory, sae_dir=str(tmp_path / "sae"), **written)
    assert one.metadata["source"]["format"] == FORMATS[directory.relative_to(RECORDED).parts[0]]
    skip = skipped(one.sae, torch.tensor(said["inputs"], dtype=torch.float32))
    decoded = said["reconstructions"]
    if skip is not None:
        decoded = decoded - skip.double().numpy()
    assert_computes(one.sae, said["inputs"], said["latents"], decoded)


def test_there_are_recordings_of_every_package() -> None:
    assert {path.name for path in RECORDED.iterdir()} == FORMATS.keys()


def test_every_class_of_dictionary_learning_is_among_them() -> None:
    classes = {found(path).architecture for path in (RECORDED / "dictionary_learning").iterdir()}
    assert classes == set(dictionary_learning.CLASSES)
