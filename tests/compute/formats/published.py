"""Tiny SAEs in the layouts in which SAEs are published, and what their formulas give in float64."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.encoding import decode
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles
from gql_server.protocol.events import Log
from gql_server.protocol.results import ImportResult
from gql_server.protocol.tasks import ImportSae
from tests.compute.conftest import RecordingContext
from tests.published.weights import N_INPUTS, N_LATENTS, Array, Weights

from mi_crow.mechanistic.sae.sae import Sae


def pre_activations(rows: Array, w: Weights, *, subtracts: bool = False) -> Array:
    """Return what the activation function gets, [n_rows, n_latents]."""
    return (rows - (w.decoder_bias if subtracts else 0)) @ w.encoder.T + w.encoder_bias


def layer_normed(rows: Array) -> tuple[Array, Array, Array]:
    """Return rows as OpenAI's and SAELens' layer_norm gives them, and each row's factor and mean."""
    mean = rows.mean(axis=1, keepdims=True)
    deviation = rows.std(axis=1, ddof=1, keepdims=True)
    return (rows - mean) / (deviation + 1e-5), deviation, mean


def norm_rescaled(rows: Array) -> tuple[Array, Array, Array]:
    """Return rows of length sqrt(n_inputs), and by what each was divided; its mean is none to restore."""
    factor = np.sqrt(rows.shape[1]) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * factor, 1 / factor, np.zeros_like(factor)


def above(pre_activations: Array, threshold: Array | float) -> Array:
    """Keep what is above 0 and above its threshold."""
    kept = (pre_activations > threshold) & (pre_activations > 0)
    return np.where(kept, pre_activations, 0)


def largest(pre_activations: Array, k: int) -> Array:
    """Keep the k largest of each row, and of these the positive ones."""
    latents = np.zeros_like(pre_activations)
    for row, values in enumerate(pre_activations):
        for place in np.argsort(-values)[:k]:
            latents[row, place] = max(values[place], 0)
    return latents


# ------------------------------------------------------------------------------------- files


def safetensors(path: Path, found: dict[str, Tensor]) -> None:
    """Write a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(found, path)


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def torch_file(path: Path, content: Any) -> None:
    """Write a file of torch.save's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


# ------------------------------------------------------------------------------------- imports


def source_files(path: Path) -> SourceFiles:
    """Return what lies at a path, as the service finds it."""
    directory, chosen = (path, None) if path.is_dir() else (path.parent, path.name)
    names = [str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()]

    @contextmanager
    def opened(name: str) -> Iterator[BinaryIO]:
        with (directory / name).open("rb") as file:
            yield file

    return SourceFiles(str(path), names, chosen, opened)


def found(path: Path) -> SaeDescription:
    """Find out the format at a path; NotRepresentable says why it is refused."""
    return registry.find(source_files(path))


def task_for(path: Path, **changes: Any) -> ImportSae:
    """Return the task that imports what lies at a path."""
    described = found(path)
    directory = path if path.is_dir() else path.parent
    task = ImportSae(
        sae_id="sae_1",
        name="imported",
        language_model_id="lm_1",
        layer="m_layers_0",
        kind="BLOCK",
        depth=0,
        n_inputs=N_INPUTS,
        max_latents=1000,
        format=described.format,
        source=str(path),
        files={name: str(directory / name) for name in described.files},
        roots=[str(directory)],
        sae_dir=str(directory.parent / "imported"),
    )
    return msgspec.structs.replace(task, **changes)


@dataclass
class Imported:
    """An SAE that was imported."""

    result: ImportResult
    sae: Sae
    context: RecordingContext
    metadata: dict[str, Any]

    @property
    def notes(self) -> list[str]:
        """What the job's log says."""
        return [event.message for event in self.context.events if isinstance(event, Log)]


def imported(path: Path, **changes: Any) -> Imported:
    """Import what lies at a path, and load what came of it."""
    task, context, classes = task_for(path, **changes), RecordingContext(), SaeClasses()
    result = import_sae(task, context, classes)
    directory = Path(task.sae_dir)
    sae = classes.get(result.sae_class).load(directory / "sae.pt")
    return Imported(result, sae, context, json.loads((directory / "metadata.json").read_text()))


def assert_computes(sae: Sae, rows: Array, latents: Array, reconstructions: Array) -> None:
    """Compare with what a formula gives, to 1e-5, and active neuron by active neuron."""
    with torch.no_grad():
        given = torch.tensor(rows, dtype=torch.float32)
        ours = sae.encode(given)
        decoded = decode(sae, ours, of=given)
        torch.testing.assert_close(sae.forward(given), decoded, rtol=1e-6, atol=1e-6)
    assert np.array_equal(ours.numpy() != 0, latents != 0)
    np.testing.assert_allclose(ours.numpy(), latents, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded.numpy(), reconstructions, rtol=1e-5, atol=1e-4)
    active = (latents != 0).sum(axis=1)
    assert 0 < active.mean() < N_LATENTS - 1 and len(set(active.tolist())) > 1


# ------------------------------------------------------------------------------------ hostile files

WEIRD = [None, True, -1, 0, 0.5, 1e999, 10**40, "x", "\ud800", [], [1], {}, {"in": "x"}]


def assert_any_value_is_read_or_refused(path: Path) -> None:
    """Put strange values into a configuration, one at a time; NotRepresentable is all that comes of it."""
    content = json.loads(path.read_text())
    refused = 0
    for inner in {id(part): part for part in (content, content.get("trainer", content))}.values():
        for name, value in list(inner.items()):
            for weird in WEIRD:
                inner[name] = weird
                path.write_text(json.dumps(content))
                try:
                    found(path.parent)
                except NotRepresentable:
                    refused += 1
            inner[name] = value
    path.write_text(json.dumps(content))
    assert refused > 0 and found(path.parent)


def assert_any_damage_is_read_or_refused(path: Path, directory: Path, times: int = 60) -> None:
    """Change some bytes of a file, most of them in its headers; where it is refused nothing is left."""
    good, choose, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(times):
        damaged = bytearray(good)
        for _ in range(choose.randint(1, 3)):
            near = choose.randrange(min(700, len(good)))
            place = choose.choice([near, len(good) - 1 - near, choose.randrange(len(good))])
            damaged[place] = choose.choice([0, 1, 0xFF, ord("9"), choose.randrange(256)])
        path.write_bytes(damaged)
        left = directory.parent / "imported"
        try:
            imported(directory, n_inputs=None)
        except (NotRepresentable, TaskError):
            refused += 1
            assert not left.exists()
        else:
            shutil.rmtree(left)
    path.write_bytes(good)
    assert refused > times / 4
