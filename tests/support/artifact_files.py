"""Files of artifacts as a worker leaves them."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gql_server import ids
from gql_server.services import artifacts, neuron_tensors
from gql_server.services.app_context import AppContext
from models import NeuronIndex, Sae
from models.enums import ArtifactStatus


def write_tokenizer(server: AppContext, language_model_id: str, tiny_model_dir: Path) -> None:
    """Write the tokenizer that a load of a language model leaves for counting tokens."""
    copy = artifacts.copy_directory(server.settings, language_model_id)
    copy.mkdir(parents=True)
    (copy / "tokenizer.json").write_bytes((tiny_model_dir / "tokenizer.json").read_bytes())
    (copy / "special_token_ids.json").write_text("[0, 1, 2]")


async def add_neuron_index(server: AppContext, sae: Sae) -> None:
    """Write a READY index of four neurons: 0 and 3 tie, 1 is dead, 2 fires most often."""
    index = NeuronIndex(
        id=ids.new(ids.NEURON_INDEX), sae_id=sae.id, status=ArtifactStatus.READY, top_texts_per_neuron=3
    )
    async with server.database.write() as session:
        session.add(index)
    path: Path = neuron_tensors.path_of(server.settings, index.id)
    path.parent.mkdir(parents=True)
    save_file(
        {
            "firing_count": np.array([5, 0, 50, 5]),
            "frequency": np.array([0.1, 0.0, 1.0, 0.1], dtype=np.float32),
            "max_activation": np.array([1, 0, 2, np.inf], dtype=np.float32),
            "mean_activation": np.array([1, np.nan, 2, 3], dtype=np.float32),
            "histogram_counts": np.array([[5] + [0] * 31, [0] * 32, [25, 25] + [0] * 30, [0] * 31 + [5]]),
            "histogram_limit": np.array([1, 0, 2, np.inf], dtype=np.float32),
        },
        path,
    )
