"""The batches that a training of this server takes its steps on, written down for others to train on."""

from pathlib import Path

import numpy as np

from gql_server.compute.storage.rows import ACTIVATIONS_KEY
from gql_server.compute.training.training_store import TrainingStore

from mi_crow.store.store import Store


def write_batches(
    store: Store,
    run_id: str,
    layer: str,
    path: Path,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    buffer_bytes: int,
) -> int:
    """Write an .npy file [n_steps, batch_size, n_inputs] of float32, in training's order; returns n_steps.

    The activations are as they were captured: a training's own scale is not in them.
    """
    rows = TrainingStore(store, run_id, layer, batch_size=batch_size, seed=seed, buffer_bytes=buffer_bytes)
    n_steps = epochs * rows.steps_per_epoch
    batches = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=np.float32, shape=(n_steps, batch_size, rows.n_inputs)
    )
    step = 0
    for _ in range(epochs):
        for index in rows.list_run_batches(run_id):
            batches[step] = rows.get_detector_metadata_by_layer_by_key(
                run_id, index, layer, ACTIVATIONS_KEY
            ).numpy()
            step += 1
    batches.flush()
    return n_steps
