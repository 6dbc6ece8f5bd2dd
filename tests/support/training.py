"""A small stored run and trainings on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.training.training_store import TrainingStore
from gql_server.protocol.events import Event, TrainingPointMessage
from gql_server.protocol.tasks import TrainSae

from mi_crow.store.store import Store
from mi_crow.store.store_dataloader import StoreDataloader

LAYER = "llamaforcausallm_model_layers_0"
WIDTH = 8
POISON = 1e6
"""The value at padding and special tokens: no row with it may ever be read."""


@dataclass
class StoredRun:
    """A stored run and the rows in it that count."""

    store: Store
    rows: Tensor


def structured_rows(n: int, seed: int = 0) -> Tensor:
    """Make rows that a sparse code can describe: few of 12 directions each, an offset, some noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(12, WIDTH, generator=generator), dim=1)
    weights = torch.rand(n, 12, generator=generator) * (torch.rand(n, 12, generator=generator) < 0.15)
    return 40 * weights @ directions + 3.0 + 0.1 * torch.randn(n, WIDTH, generator=generator)


def write_run(store: Store, n_batches: int = 6, dtype: torch.dtype = torch.float32) -> StoredRun:
    """Store a run: batches of uneven length, the first token special, the ends padding."""
    kept = []
    for batch in range(n_batches):
        n_texts, length = 3 + batch % 2, 9 + 3 * batch
        mask = torch.ones(n_texts, length, dtype=torch.bool)
        mask[:, 0] = False
        for text in range(n_texts):
            mask[text, length - text :] = False
        activations = torch.full((n_texts, length, WIDTH), POISON, dtype=dtype)
        activations[mask] = structured_rows(int(mask.sum()), seed=batch).to(dtype)
        kept.append(activations[mask].float())
        tensors = {
            LAYER: {"activations": activations},
            "attention_masks": {
                "attention_mask": mask,
                "input_ids": torch.zeros_like(mask, dtype=torch.long),
            },
        }
        store.put_detector_metadata("run_a", batch, {}, tensors)
    return StoredRun(store, torch.cat(kept))


def training_store(run: StoredRun, **changes: Any) -> TrainingStore:
    """Make a TrainingStore over the run."""
    options: dict[str, Any] = {"batch_size": 16, "seed": 1, "buffer_bytes": 2**20} | changes
    return TrainingStore(run.store, "run_a", LAYER, **options)


def epoch(store: TrainingStore, batch_size: int = 16) -> list[Tensor]:
    """Read an epoch as the trainer does, through mi_crow's data loader."""
    return list(StoreDataloader(store, "run_a", LAYER, batch_size=batch_size))


def training_task(directory: Path, **changes: Any) -> TrainSae:
    """Return a task that trains a small SAE on the stored run."""
    task = TrainSae(
        sae_id="sae_1",
        name="small",
        sae_class="TopKSae",
        language_model_id="lm_1",
        run_id="run_a",
        store_dir=str(directory / "store"),
        layer=LAYER,
        n_latents=24,
        k=3,
        epochs=4,
        batch_size=16,
        learning_rate=None,
        l1_lambda=None,
        seed=5,
        device="cpu",
        sae_dir=str(directory / "sae" / "lm_1" / "sae_1"),
        shuffle_buffer_bytes=2**20,
    )
    return msgspec.structs.replace(task, **changes)


def training_points(events: list[Event]) -> list[TrainingPointMessage]:
    """Return the training points among the events."""
    return [event for event in events if isinstance(event, TrainingPointMessage)]
