"""SAEs of every class that can be exported, with weights that matter; and the directories that are recorded.

``python -m tests.saelens.cases`` writes their exports anew, and a model's activations on prompts, for the
recorder: see ``make recordings``.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.formats.sae_export import export_sae
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.protocol.events import Event
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import ExportSae
from tests.saelens.recorded_files import RECORDED
from tests.support.tiny_model import make_tiny_model

from mi_crow.mechanistic.sae.sae import Sae

ExportFormat = Literal["SAE_LENS", "DICTIONARY_LEARNING", "SPARSIFY"]
N_INPUTS, N_LATENTS, K = 16, 64, 5
CLASSES = ("TopKSae", "L1Sae", "ReLUSae", "BiasedTopKSae", "BatchTopKSae", "JumpReLUSae", "GatedSae")
PROMPTS = (
    "for x in range(10): print(x)",
    "The for statement is used to iterate over the elements of a sequence.",
    "naïve 😀",
)
METADATA: Mapping[str, str | int | dict[str, str] | None] = {
    "model_name": "tiny",
    "hook_name": "blocks.0.hook_resid_post",
    "context_size": 64,
    "model_from_pretrained_kwargs": {},
    "prepend_bos": None,
}


def make(name: str) -> Sae:
    """Return an SAE of a class with random weights: offsets, rows of any length, thresholds above 0."""
    sae_class = SaeClasses().get(name)
    k = K if sae_class.needs_k and name != "JumpReLUSae" else None
    sae = sae_class.build(N_LATENTS, N_INPUTS, k, "cpu")
    generator = torch.Generator().manual_seed(CLASSES.index(name))
    state = {
        key: torch.randn(tensor.shape, generator=generator)
        for key, tensor in sae.sae_engine.state_dict().items()
    }
    for key in {"decoder_bias", "threshold"} & state.keys():
        state[key] = state[key].abs() + 0.5
    if "dictionary.multiplier" in state:
        state["dictionary.multiplier"] = torch.tensor(0.25)
    sae.sae_engine.load_state_dict(state)
    if isinstance(sae, AffineSae):
        sae.sae_engine.subtracts_bias = name != "JumpReLUSae"
    place(sae, "cpu")
    return sae


class _Silent:
    """A task context that nobody listens to."""

    def emit(self, event: Event) -> None:
        """Let it go."""

    def check(self) -> None:
        """Go on."""


def export(name: str, path: Path, format: ExportFormat = "SAE_LENS", sae: Sae | None = None) -> None:
    """Write the export of a class's SAE, a ZIP file; of make()'s where none is given."""
    source = SaeSource("sae_1", name, "/nowhere", "layer", N_INPUTS, N_LATENTS, K)
    task = ExportSae(source, format, str(path), dict(METADATA))
    export_sae(task, _Silent(), make(name) if sae is None else sae)


def unpack(path: Path, directory: Path) -> Path:
    """Unpack a ZIP file; returns the directory."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(directory)
    return directory


def activations() -> Tensor:
    """Return what block 0 of the tiny model puts out on the prompts, one after the other: [n_tokens, 32]."""
    with tempfile.TemporaryDirectory() as directory:
        path = make_tiny_model(Path(directory))
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path).eval()
    ids = [tokenizer(prompt, return_tensors="pt")["input_ids"] for prompt in PROMPTS]
    with torch.no_grad():
        return torch.cat([model(one, output_hidden_states=True).hidden_states[1][0] for one in ids])


def main() -> None:
    """Write all exports and the activations anew, and remove what was recorded."""
    shutil.rmtree(RECORDED, ignore_errors=True)
    for name in CLASSES:
        directory = RECORDED / "exported" / name
        export(name, directory / "export.zip")
        unpack(directory / "export.zip", directory)
        (directory / "export.zip").unlink()
    save_file({"activations": activations()}, RECORDED / "prompts.safetensors")


if __name__ == "__main__":
    main()
