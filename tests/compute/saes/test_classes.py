"""The registry of SAE classes, and the cache of loaded SAEs."""

import importlib.metadata
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes import classes as module
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_classes import BUILT_IN
from gql_server.protocol.sources import SaeSource
from tests.compute.dummy_sae import DummySae


def source(directory: Path, **changes: Any) -> SaeSource:
    """Name an SAE in a directory."""
    fields: dict[str, Any] = {
        "id": "sae_1",
        "sae_class": "TopKSae",
        "directory": str(directory),
        "layer": "layer",
        "n_inputs": 6,
        "n_latents": 10,
        "k": 2,
    }
    return SaeSource(**fields | changes)


def test_mi_crows_classes_and_ours_are_there_and_those_that_aim_at_k_need_it() -> None:
    described = SaeClasses().describe()
    assert [(one.name, one.needs_k) for one in described] == [
        ("BatchTopKSae", True),
        ("BiasedTopKSae", True),
        ("GatedSae", False),
        ("JumpReLUSae", True),
        ("L1Sae", False),
        ("ReLUSae", False),
        ("TopKSae", True),
    ]
    assert {one.name: one.description for one in described} == {
        name: built_in.description for name, built_in in BUILT_IN.items()
    }


def test_a_class_of_another_package_is_described_by_how_its_docstring_begins() -> None:
    class Documented(DummySae):
        """Keeps latents
        that are large.

        More of it.
        """

    described = {one.name: one.description for one in SaeClasses({"Documented": Documented}).describe()}
    assert described["Documented"] == "Keeps latents that are large."


def test_an_entry_point_registers_a_class_and_one_that_cannot_be_imported_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("Dummy", "tests.compute.dummy_sae:DummySae", module.GROUP),
        EntryPoint("Missing", "no_such_package:Sae", module.GROUP),
        EntryPoint("NotAnSae", "pathlib:Path", module.GROUP),
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    assert {described.name for described in SaeClasses().describe()} == {"Dummy", *BUILT_IN}


def test_another_packages_class_does_not_take_the_name_of_one_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = importlib.metadata.EntryPoint("TopKSae", "tests.compute.dummy_sae:DummySae", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    assert SaeClasses().get("TopKSae").sae_type.__module__.startswith("mi_crow.")


def test_an_unknown_class_is_invalid() -> None:
    with pytest.raises(TaskError, match=r"there are .*L1Sae, ReLUSae, TopKSae") as caught:
        SaeClasses().get("os.system")
    assert (caught.value.code, caught.value.path) == ("INVALID", ["saeClass"])


@pytest.mark.parametrize("name", ["TopKSae", "L1Sae", "DummySae"])
def test_what_is_saved_loads_with_the_same_latents_and_without_edits(tmp_path: Path, name: str) -> None:
    sae_class = SaeClasses({"DummySae": DummySae}).get(name)
    torch.manual_seed(0)
    sae = sae_class.build(n_latents=10, n_inputs=6, k=2, device="cpu")
    loaded = sae_class.load(sae_class.save(sae, tmp_path, k=2))
    x = torch.randn(5, 6)
    with torch.no_grad():
        assert torch.equal(loaded.encode(x), sae.encode(x))
        # Normalizing the dictionary's rows once more moves them by a rounding error.
        torch.testing.assert_close(loaded.decode(loaded.encode(x)), sae.decode(sae.encode(x)))
    assert not loaded.concepts.bias.any()
    assert bool((loaded.concepts.multiplication == 1).all())
    assert not loaded.sae_engine.training


def test_a_class_whose_save_takes_a_name_alone_saves_into_the_directory(tmp_path: Path) -> None:
    class NameOnly(DummySae):
        def save(self, name: str) -> None:  # type: ignore[override]
            super().save(name, "")

    sae_class = SaeClasses({"NameOnly": NameOnly}).get("NameOnly")
    path = sae_class.save(sae_class.build(4, 3, None, "cpu"), tmp_path)
    assert path == tmp_path / "sae.pt"


def test_a_top_k_engine_is_made_with_k() -> None:
    sae = SaeClasses().get("TopKSae").build(n_latents=10, n_inputs=6, k=4, device="cpu")
    assert int((sae.encode(torch.randn(50, 6)) != 0).sum(dim=1).max()) <= 4
    assert sae.sae_engine.top_k == 4


# --------------------------------------------------------------------------------------- the cache


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Give a directory with a checkpoint."""
    sae_class = SaeClasses().get("TopKSae")
    sae_class.save(sae_class.build(n_latents=10, n_inputs=6, k=2, device="cpu"), tmp_path, k=2)
    return tmp_path


def test_an_sae_is_loaded_once_until_its_checkpoint_changes(saved: Path) -> None:
    saes = Saes(SaeClasses())
    first = saes.get(source(saved))
    assert saes.get(source(saved)) is first
    assert first.id == source(saved).id
    sae_class = SaeClasses().get("TopKSae")
    sae_class.save(sae_class.build(n_latents=10, n_inputs=6, k=3, device="cpu"), saved, k=3)
    again = saes.get(source(saved))
    assert again is not first
    assert again.sae_engine.top_k == 3


def test_the_sae_used_longest_ago_is_let_go_of(saved: Path) -> None:
    saes = Saes(SaeClasses(), capacity=2)
    one, two = saes.get(source(saved, id="sae_1")), saes.get(source(saved, id="sae_2"))
    assert saes.get(source(saved, id="sae_1")) is one
    saes.get(source(saved, id="sae_3"))
    assert saes.get(source(saved, id="sae_1")) is one
    assert saes.get(source(saved, id="sae_2")) is not two


def test_concepts_are_attached_and_follow_their_file(saved: Path) -> None:
    saes = Saes(SaeClasses())
    assert saes.get(source(saved)).concepts.dictionary is None
    (saved / "concepts").mkdir()
    file = saved / "concepts" / "concepts.json"
    file.write_text(json.dumps({"n_size": 10, "concepts": {"3": {"name": "rivers", "score": 0.5}}}))
    dictionary = saes.get(source(saved)).concepts.dictionary
    assert dictionary is not None
    assert dictionary.get(3).name == "rivers"
    file.write_text("{")
    assert saes.get(source(saved)).concepts.dictionary is None


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_a_checkpoint_that_is_missing_or_broken_is_a_conflict(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "sae.pt").write_bytes(content)
    with pytest.raises(TaskError, match="checkpoint of SAE sae_1") as caught:
        Saes(SaeClasses()).get(source(tmp_path))
    assert caught.value.code == "CONFLICT"


def test_a_checkpoint_of_other_sizes_is_a_conflict(saved: Path) -> None:
    with pytest.raises(TaskError, match="10 neurons over 6 inputs, not 11 over 6") as caught:
        Saes(SaeClasses()).get(source(saved, n_latents=11))
    assert caught.value.code == "CONFLICT"


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"mi_crow_metadata": Evil()}, tmp_path / "sae.pt")
    with pytest.raises(TaskError):
        Saes(SaeClasses()).get(source(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_with_a_flipped_bit_is_a_conflict(saved: Path) -> None:
    path = saved / "sae.pt"
    whole = path.read_bytes()
    weights = Saes(SaeClasses()).get(source(saved)).sae_engine.encoder.final_block[0].weight.numpy().tobytes()
    place = whole.index(weights)  # torch.load would take these bytes as they are.
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(TaskError, match="cannot be read"):
        Saes(SaeClasses()).get(source(saved))
