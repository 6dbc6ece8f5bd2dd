"""What docs/results.md compares: the same batches for all, SAEs as trained, tables of what was measured."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graphql import build_schema, parse, validate
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks import results, results_documents, results_page
from benchmarks.comparison import seconds_of
from benchmarks.peers import handover, trainings
from benchmarks.peers.mi_crow import train as mi_crow_peer
from benchmarks.results_page import MARKS, Circumstances, Measured
from benchmarks.training_batches import write_batches
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.training.training import train_sae
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.support.training import LAYER, training_task, write_run

from mi_crow.store.local_store import LocalStore
from mi_crow.store.store_dataloader import StoreDataloader
from overcomplete.sae import SAE

ROOT = Path(__file__).parents[2]
SEEN: list[NDArray[np.float32]] = []


class WatchedSae(DummySae):
    """Keeps what its engine is trained on."""

    def _initialize_sae_engine(self) -> SAE:
        engine = super()._initialize_sae_engine()
        engine.register_forward_pre_hook(
            lambda module, inputs: SEEN.append(inputs[0].detach().numpy().copy())
        )
        return engine


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    SEEN.clear()
    yield
    SEEN.clear()


def order(directory: Path, **changes: Any) -> handover.Order:
    """Order a training on three batches of random numbers."""
    batches = np.random.default_rng(0).normal(3.0, 2.0, (3, 16, 8)).astype(np.float32)
    given: dict[str, Any] = {"batches": batches, "n_latents": 24, "k": 3, "seed": 0, "options": {}}
    return handover.Order(**(given | {"directory": directory} | changes))


def measured(title: str, explained: float | None, **changes: Any) -> Measured:
    """Make up a score."""
    held_out = {
        "explainedVariance": explained,
        "mse": 1.5,
        "l0": 32.0,
        "deadFraction": 0.25,
        "ceLossOriginal": 3.0,
        "ceLossReconstructed": 3.5,
        "ceLossZeroAblated": 13.0,
        "ceLossRecovered": 0.95,
        "klDivergenceReconstructed": 0.125,
    }
    given: dict[str, Any] = {"title": title, "version": "1.0", "settings": {"lr": 0.001, "use_amp": True}}
    return Measured(**(given | {"seconds": 50.0, "token_count": 400_000, "held_out": held_out} | changes))


def test_the_batches_are_those_that_a_training_with_the_same_seed_takes_its_steps_on(tmp_path: Path) -> None:
    run = write_run(LocalStore(tmp_path / "store"))
    task = training_task(tmp_path, sae_class="WatchedSae", k=None, seed=5, epochs=3, batch_size=16)
    train_sae(task, RecordingContext(), SaeClasses({"WatchedSae": WatchedSae}))

    n_steps = write_batches(
        run.store,
        "run_a",
        LAYER,
        tmp_path / "batches.npy",
        batch_size=16,
        epochs=3,
        seed=5,
        buffer_bytes=task.shuffle_buffer_bytes,
    )

    written = np.load(tmp_path / "batches.npy")
    assert written.dtype == np.float32
    assert n_steps == len(SEEN) == 3 * (len(run.rows) // 16)
    assert np.array_equal(written, np.stack(SEEN))


def test_stock_mi_crow_gets_the_batches_whole_and_in_order(tmp_path: Path) -> None:
    given = order(tmp_path)

    store = mi_crow_peer.stored(given)

    loaded = StoreDataloader(store, mi_crow_peer.RUN, mi_crow_peer.LAYER, batch_size=16)
    assert np.array_equal(np.stack([batch.numpy() for batch in loaded]), given.batches)


def test_what_is_handed_back_computes_what_was_trained(tmp_path: Path) -> None:
    given = order(tmp_path)
    random = np.random.default_rng(1)
    encoder, decoder = random.normal(size=(2, 24, 8)).astype(np.float32)
    encoder_bias, bias = (random.normal(size=size).astype(np.float32) for size in (24, 8))

    handover.save_topk(
        given,
        encoder=torch.from_numpy(encoder),
        encoder_bias=torch.from_numpy(encoder_bias),
        decoder=torch.from_numpy(decoder),
        bias=torch.from_numpy(bias),
    )

    saved, cfg = (
        load_file(tmp_path / "sae_weights.safetensors"),
        json.loads((tmp_path / "cfg.json").read_text()),
    )
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["k"]) == ("topk", 8, 24, 3)
    assert cfg["apply_b_dec_to_input"] and not cfg["rescale_acts_by_decoder_norm"]
    x = given.batches[0]
    expected_codes = (x - bias) @ encoder.T + encoder_bias
    assert np.allclose((x - saved["b_dec"]) @ saved["W_enc"] + saved["b_enc"], expected_codes, atol=1e-5)
    latents = np.maximum(expected_codes, 0)
    assert np.allclose(latents @ saved["W_dec"] + saved["b_dec"], latents @ decoder + bias, atol=1e-4)


def test_a_training_of_a_peer_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    training = trainings.PeerTraining("mi_crow", "stock", {"lr": 0.5})

    with pytest.raises(trainings.PeerFailed, match=r"mi_crow_lr-0.5 ended with 1:[\s\S]*no-such-batches.npy"):
        trainings.train(training, tmp_path / "no-such-batches.npy", tmp_path, n_latents=8, k=2, seed=0)


def test_each_training_has_a_name_and_a_script_of_its_own() -> None:
    names = [training.name for training in trainings.TRAININGS]

    assert len(set(names)) == len(names)
    for training in trainings.TRAININGS:
        assert (ROOT / "benchmarks" / "peers" / training.peer / "train.py").is_file()


def test_with_more_latents_a_lower_learning_rate_is_tried_beside_the_one_that_is_set() -> None:
    plain = trainings.PeerTraining("mi_crow", "stock", {"use_amp": False})
    tuned = trainings.PeerTraining("mi_crow", "stock", {"lr": 4e-3, "use_amp": False})
    lower = trainings.PeerTraining("mi_crow", "stock", {"lr": 2e-3, "use_amp": False})

    assert trainings.for_more_latents([plain, tuned], 4) == [plain, tuned, lower]
    assert trainings.for_more_latents([plain, tuned], 1) == [plain, tuned]
    assert len({training.name for training in trainings.for_more_latents(trainings.TRAININGS, 4)}) == 12


def test_of_each_package_the_training_that_explains_most_is_shown() -> None:
    worse, better = measured("a", 0.7), measured("a", 0.8)
    undefined, other = measured("b", None), measured("b", 0.5)

    assert results_page.best_of_each([worse, undefined, better, other]) == [better, other]


def test_the_page_gets_what_was_measured_and_keeps_the_rest() -> None:
    given = [measured("ours", 0.9, seen={"explainedVariance": 0.95}, dead=0.0125), measured("theirs", None)]
    circumstances = Circumstances(4096, 32, 391, 1024, 929, 50_000, 100, 5_000, 100)

    page = MARKS.put_between(
        f"# Title\n\n{MARKS.begin}\nold\n{MARKS.end}\n\nRest\n",
        results_page.render(given, circumstances, "a machine"),
    )

    assert page.startswith(f"# Title\n\n{MARKS.begin}\n\na machine\n") and page.endswith(
        f"\n\n{MARKS.end}\n\nRest\n"
    )
    assert "old" not in page
    lines = page.splitlines()
    assert "|  | ours | theirs |" in lines
    assert "| explained variance, held out | 0.9000 | – |" in lines
    assert "| explained variance, seen | 0.9500 | – |" in lines
    assert "| dead on the training's tokens | 1.2% | – |" in lines
    assert "| training tokens/s | 8,000 | 8,000 |" in lines
    assert "| ours | 1.0 | lr 0.001, use_amp on | 0.9000 | 0.9500 | 50 |" in lines


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the marks"):
        MARKS.put_between("# Title\n", "tables")


def test_the_projects_page_has_the_marks() -> None:
    for n_latents in (4096, 16384):
        assert "tables" in results.marks_of(n_latents).put_between(results.PAGE.read_text(), "tables")


def test_a_page_without_marks_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{MARKS.begin}\n\nother tables\n\n{MARKS.end}\n")
    monkeypatch.setattr("sys.argv", ["results", "--latents", "123", "--page", str(page)])
    monkeypatch.setattr(results, "compare", lambda *given: pytest.fail("it began"))

    with pytest.raises(ValueError, match="with 123 neurons"):
        results.main()


def test_a_trainings_time_is_the_sum_over_its_points() -> None:
    points = [
        {"tokenCount": 1_000, "tokensPerSecond": 500.0},
        {"tokenCount": 4_000, "tokensPerSecond": 1_000.0},
    ]

    assert seconds_of(points) == 5.0


@pytest.mark.parametrize(
    "name", [name for name in vars(results_documents) if name.isupper() and name[0] != "_"]
)
def test_its_documents_are_valid(name: str) -> None:
    schema = build_schema((ROOT / "tests/api/contract.graphql").read_text())

    assert validate(schema, parse(getattr(results_documents, name))) == []
