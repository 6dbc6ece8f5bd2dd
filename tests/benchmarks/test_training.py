"""The benchmark of trainings, with few of everything and the one other trainer that is installed here."""

from pathlib import Path

import torch

from benchmarks import training
from benchmarks.captures import RUN, block
from benchmarks.peers.trainings import PeerTraining
from benchmarks.training_plot import draw
from gql_server.compute.storage.store import MASKS, ActivationStore

MI_CROW = PeerTraining("mi_crow", "mi_crow", {"use_amp": False})


def small_run(directory: Path) -> ActivationStore:
    """Store three batches of 1,024 tokens."""
    store = ActivationStore(directory / "store")
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        activations = torch.randn(16, 64, 8, generator=generator)
        mask = torch.ones(16, 64, dtype=torch.bool)
        tensors = {block(9): {"activations": activations}, MASKS: {"attention_mask": mask}}
        store.put_detector_metadata(RUN, index, {}, tensors)
    return store


def test_trainers_take_turns_and_their_speeds_are_compared(tmp_path: Path) -> None:
    size = training.Size(64, 4, 2, goal=1.3)
    results = training.measure(small_run(tmp_path), tmp_path, [size], [MI_CROW])
    measured = results[64]
    assert set(measured) == {*training.OURS, "mi_crow"}
    for one in measured.values():
        assert len(one.tokens_per_second) == len(one.megabytes) == 2
        assert min(one.tokens_per_second) > 0
        assert min(one.megabytes) > 50
    first, _, memory = training.compare(size, measured)
    assert first.against == "mi_crow"
    ratio = float(first.measured.split()[0])
    assert first.reached == (ratio >= 1.3) or abs(ratio - 1.3) < 0.01
    assert all(name in memory.ours + memory.theirs for name in measured)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    points = {name: [(1024, 10.0), (4096, 3.0)] for name in training.names()} | {"nothing": []}
    draw({"ours": [(1024, 5.0)]} | points, points, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
