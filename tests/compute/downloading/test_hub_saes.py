"""SAEs of the Hub: only what is needed is got, in one go or in several, and refusals leave nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from huggingface_hub import constants

from gql_server.compute.downloading import downloader, hub_folders, resuming
from gql_server.compute.downloading.downloader import Downloader
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Progress, Stage
from gql_server.protocol.results import Done, ImportResult
from gql_server.protocol.sources import HubSae
from gql_server.protocol.tasks import DownloadSae, ImportSae
from tests.compute.conftest import CanceledContext, RecordingContext
from tests.compute.formats.published import imported, safetensors, torch_file, write_json
from tests.published.weights import N_INPUTS, N_LATENTS, tensor, tensors, weights
from tests.support.fake_hub import COMMIT, REPOSITORY, FakeHub, fake_hub

W = weights()
OTHER_COMMIT = "d" * 40
HEAD = 8 + 1024 * 1024


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    (tmp_path / "repository").mkdir()
    monkeypatch.setattr(downloader, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(resuming, "PAUSE_SECONDS", 0.01)
    with fake_hub(tmp_path / "repository") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def task_for(hub: FakeHub, path: str, revision: str | None = None, **changes: Any) -> DownloadSae:
    artifacts = hub.directory.parent / "artifacts"
    artifacts.mkdir(exist_ok=True)
    task = DownloadSae(
        source=HubSae(REPOSITORY, path, revision),
        directory=str(artifacts / "sae_1" / "download"),
        n_inputs=N_INPUTS,
        max_latents=1000,
        min_free_bytes=0,
        artifact_dir=str(artifacts),
        max_artifact_bytes=None,
        patience_seconds=10,
    )
    return msgspec.structs.replace(task, **changes)


def get(task: DownloadSae, context: RecordingContext | None = None) -> RecordingContext:
    context = context or RecordingContext()
    assert Downloader(lambda message: None).do(task, context) == Done()
    return context


def refusal(task: DownloadSae) -> TaskError:
    with pytest.raises(TaskError) as caught:
        get(task)
    return caught.value


def refused_without_a_trace(task: DownloadSae) -> str:
    """Return why a download is refused, having seen that nothing of it is left."""
    error = refusal(task)
    assert list(Path(task.artifact_dir).iterdir()) == []
    return error.reason


def import_got(task: DownloadSae, context: RecordingContext | None = None) -> ImportResult:
    importing = ImportSae(
        sae_id="sae_1",
        name="imported",
        language_model_id="lm_1",
        layer="m_layers_0",
        kind="BLOCK",
        depth=0,
        n_inputs=N_INPUTS,
        max_latents=1000,
        format="",
        source=task.source.place,
        files={},
        roots=[],
        sae_dir=str(Path(task.directory).parent),
        download=task,
    )
    return import_sae(importing, context or RecordingContext(), SaeClasses())


def resolved(hub: FakeHub) -> set[str]:
    """Return the paths of the files that were asked for."""
    return {path.partition(f"/resolve/{hub.commit}/")[2] for path in hub.asked if "/resolve/" in path}


# ------------------------------------------------------------------------------------- formats


def matrices(**more: Any) -> dict[str, Any]:
    values = {"W_enc": W.encoder.T, "b_enc": W.encoder_bias, "W_dec": W.decoder, "b_dec": W.decoder_bias}
    return {name: np.asarray(value, "f4") for name, value in (values | more).items()}


def linear(names: tuple[str, str, str, str]) -> dict[str, Any]:
    values = (W.encoder, W.encoder_bias, W.decoder.T, W.decoder_bias)
    return {name: tensor(value) for name, value in zip(names, values, strict=True)}


def sae_lens(directory: Path) -> Path:
    cfg = {
        "architecture": "standard",
        "d_in": N_INPUTS,
        "d_sae": N_LATENTS,
        "dtype": "float32",
        "metadata": {"sae_lens_version": "6.10.0", "hook_name": "blocks.0.hook_resid_post"},
    }
    write_json(directory / "cfg.json", cfg)
    safetensors(directory / "sae_weights.safetensors", tensors(**matrices()))
    safetensors(directory / "sparsity.safetensors", tensors(sparsity=W.threshold))
    return directory


def gemma_scope(directory: Path) -> Path:
    directory.mkdir(parents=True)
    np.savez(directory / "params.npz", **matrices(threshold=W.threshold))
    return directory


def gemma_scope_2(directory: Path) -> Path:
    values = {name.lower(): value for name, value in matrices(threshold=W.threshold).items()}
    safetensors(directory / "params.safetensors", tensors(**values))
    safetensors(directory / "examples.safetensors", tensors(examples=np.zeros(9)))
    config = {"type": "sae", "architecture": "jump_relu"}
    config |= {f"hf_hook_point_{side}": "model.layers.0.output" for side in ("in", "out")}
    write_json(directory / "config.json", config)
    return directory


def llama_scope(directory: Path) -> Path:
    values = linear(("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"))
    safetensors(directory / "checkpoints" / "final.safetensors", values)
    config = {
        "hook_point_in": "blocks.0.hook_resid_post",
        "hook_point_out": "blocks.0.hook_resid_post",
        "d_model": N_INPUTS,
        "d_sae": N_LATENTS,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 2.0, "out": 4.0},
        "apply_decoder_bias_to_pre_encoder": False,
        "sparsity_include_decoder_norm": True,
    }
    write_json(directory / "hyperparams.json", config)
    return directory


def llamascopium(directory: Path) -> Path:
    # Its norms are told by values of tensors.
    hook = "blocks.0.hook_resid_post"
    values = tensors(W_E=W.encoder.T, b_E=W.encoder_bias, W_D=W.decoder, b_D=W.decoder_bias)
    values[f"dataset_average_activation_norm.{hook}"] = tensor(2.0)
    safetensors(directory / "sae_weights.safetensors", values)
    config = {
        "sae_type": "sae",
        "hook_point_in": hook,
        "hook_point_out": hook,
        "d_model": N_INPUTS,
        "expansion_factor": N_LATENTS / N_INPUTS,
        "act_fn": "relu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
    }
    write_json(directory / "config.json", config)
    return directory


def dictionary(directory: Path) -> Path:
    torch_file(directory / "ae.pt", linear(("encoder.weight", "encoder.bias", "decoder.weight", "bias")))
    write_json(directory / "config.json", {"trainer": {"dict_class": "AutoEncoder"}})
    write_json(directory / "eval_results.json", {"l0": 3})
    return directory


def qwen(directory: Path) -> Path:
    state = tensors(W_enc=W.encoder, W_dec=W.decoder.T, b_enc=W.encoder_bias, b_dec=W.decoder_bias)
    for layer in (0, 1):
        torch_file(directory / f"layer{layer}.sae.pt", state)
    return directory / "layer0.sae.pt"


def goodfire(directory: Path) -> Path:
    encoder, decoder = "encoder_linear", "decoder_linear"
    names = (f"{encoder}.weight", f"{encoder}.bias", f"{decoder}.weight", f"{decoder}.bias")
    torch_file(directory / "sae.pth", linear(names))
    (directory / "README.md").write_text("An SAE.")
    return directory


MAKERS: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "SAE_LENS": (sae_lens, "v1/blocks.0.hook_resid_post", ["cfg.json", "sae_weights.safetensors"]),
    "GEMMA_SCOPE": (gemma_scope, "gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_7", ["params.npz"]),
    "GEMMA_SCOPE_2": (gemma_scope_2, "resid_post/layer_0_width_16k", ["config.json", "params.safetensors"]),
    "LLAMA_SCOPE": (llama_scope, "L0R-8x", ["hyperparams.json", "checkpoints/final.safetensors"]),
    "LLAMASCOPIUM": (llamascopium, "8x/layer0", ["config.json", "sae_weights.safetensors"]),
    "DICTIONARY_LEARNING": (dictionary, "resid/trainer_0", ["ae.pt", "config.json"]),
    "QWEN_SCOPE": (qwen, "SAE-W32K-L0_5", ["layer0.sae.pt"]),
    "GOODFIRE": (goodfire, ".", ["sae.pth"]),
}


@pytest.mark.parametrize("format", MAKERS)
def test_what_comes_is_what_a_path_gives_and_only_that_is_got(format: str, hub: FakeHub) -> None:
    make, path, names = MAKERS[format]
    named = make(hub.directory / path)
    inner = str(named.relative_to(hub.directory)).removeprefix(".")
    task = task_for(hub, inner)
    stages = [one for one in get(task).events if isinstance(one, Stage)]
    folder = Path(inner).parent if named.is_file() else Path(inner)
    assert resolved(hub) == {str(folder / name) for name in names}
    size = sum((hub.directory / path / name).stat().st_size for name in names)
    assert (stages[0].completed, stages[-1].total) == (0, size)
    context = RecordingContext()
    result = import_got(task, context)
    theirs = imported(named)
    assert result.provenance is not None and theirs.result.provenance is not None
    assert result.provenance.checkpoint_sha256 == theirs.result.provenance.checkpoint_sha256
    assert result.provenance.source_files == theirs.result.provenance.source_files
    assert result.provenance.source_format == format
    hugging_face = {"repository": REPOSITORY, "path": inner, "revision": COMMIT}
    assert msgspec.to_builtins(result.provenance.hugging_face) == hugging_face
    directory = Path(task.directory).parent
    assert {file.name for file in directory.iterdir()} == {"sae.pt", "metadata.json"}
    assert json.loads((directory / "metadata.json").read_text())["source"]["hugging_face"] == hugging_face
    progress = [event for event in context.events if isinstance(event, Progress)]
    assert progress[-1] == Progress(size, size)


# ------------------------------------------------------------------------------------ resuming


def test_a_connection_that_breaks_is_gone_on_with(hub: FakeHub) -> None:
    path = gemma_scope(hub.directory / "a" / "layer_0")
    size = (path / "params.npz").stat().st_size
    hub.breaks_after = [700, 0, 900]
    task = task_for(hub, "a/layer_0")
    get(task)
    ends = f"-{size - 1}"
    assert hub.ranges == [("params.npz", f"bytes={begin}{ends}") for begin in (0, 700, 700, 1600)]
    got = Path(task.directory, COMMIT, "params.npz")
    assert got.read_bytes() == (path / "params.npz").read_bytes()


def test_a_hub_that_sends_all_of_a_file_again_is_no_harm(hub: FakeHub) -> None:
    path = gemma_scope(hub.directory / "a")
    hub.breaks_after, hub.takes_ranges = [700, 900], False
    task = task_for(hub, "a")
    get(task)
    assert Path(task.directory, COMMIT, "params.npz").read_bytes() == (path / "params.npz").read_bytes()


def test_an_attempt_goes_on_where_the_last_one_was_broken_off(hub: FakeHub) -> None:
    path = gemma_scope(hub.directory / "a")
    size = (path / "params.npz").stat().st_size
    hub.breaks_after = [700] + [0] * resuming.TRIES
    task = task_for(hub, "a")
    error = refusal(task)
    assert error.code == "CONFLICT"
    assert error.reason == (
        f"The SAE {REPOSITORY}/a could not be had from the Hub: The Hub cannot be reached from this server,"
        " or does not answer. Try again later."
    )
    assert Path(task.directory, COMMIT, "params.npz.part").stat().st_size == 700
    hub.ranges.clear()
    stages = [one for one in get(task).events if isinstance(one, Stage)]
    assert stages[0].completed == 700
    assert hub.ranges == [("params.npz", f"bytes=700-{size - 1}")]
    assert import_got(task).n_latents == N_LATENTS


def test_a_branch_that_has_moved_since_is_got_anew_and_a_commit_stays(hub: FakeHub) -> None:
    gemma_scope(hub.directory / "a")
    hub.breaks_after = [700] + [0] * resuming.TRIES
    task = task_for(hub, "a")
    refusal(task)
    hub.commit = OTHER_COMMIT
    hub.ranges.clear()
    get(task)
    assert hub.ranges[0][1].startswith("bytes=0-")
    assert {one.name for one in Path(task.directory).iterdir()} == {OTHER_COMMIT, "download.json"}
    hub.asked.clear()
    other = task_for(hub, "a", OTHER_COMMIT, directory=str(Path(task.artifact_dir, "sae_2", "download")))
    get(other)
    assert not any(path.endswith("/revision/main") for path in hub.asked)
    provenance = import_got(other).provenance
    assert provenance is not None and provenance.hugging_face is not None
    assert provenance.hugging_face.revision == OTHER_COMMIT


def test_a_hub_that_hangs_is_given_up_and_what_has_come_stays(hub: FakeHub) -> None:
    sae_lens(hub.directory / "a")
    hub.answers.clear()
    task = task_for(hub, "a", patience_seconds=1)
    assert refusal(task).reason.endswith("nothing has come for 1 seconds. Try again later.")
    assert Path(task.directory, COMMIT, "cfg.json").is_file()
    hub.answers.set()
    hub.asked.clear()
    get(task_for(hub, "a"))
    assert resolved(hub) == {"a/sae_weights.safetensors"}


def test_a_download_that_is_canceled_ends(hub: FakeHub) -> None:
    sae_lens(hub.directory / "a")
    hub.answers.clear()
    with pytest.raises(CancelRequested):
        get(task_for(hub, "a"), CanceledContext(0))


def test_a_file_that_comes_damaged_is_not_taken(hub: FakeHub) -> None:
    gemma_scope(hub.directory / "a")
    hub.damages = {"params.npz"}
    task = task_for(hub, "a")
    assert refusal(task).reason == "params.npz has come damaged from the Hub. Retry the job."
    hub.damages = set()
    get(task)


def test_without_room_for_weights_and_a_checkpoint_twice_as_large_nothing_is_got(hub: FakeHub) -> None:
    size = (gemma_scope(hub.directory / "a") / "params.npz").stat().st_size
    task = task_for(hub, "a", max_artifact_bytes=3 * size - 1)
    assert "and there is room for" in refusal(task).reason
    assert resolved(hub) == set()
    get(msgspec.structs.replace(task, max_artifact_bytes=3 * size))


def test_a_disk_that_is_full_is_told_by_itself(hub: FakeHub) -> None:
    sae_lens(hub.directory / "a")
    with pytest.raises(OSError, match="No space left"):
        get(task_for(hub, "a", min_free_bytes=2**60))


# ------------------------------------------------------------------------------------ refusals


def test_an_sae_for_another_width_is_refused_before_its_weights_come(hub: FakeHub) -> None:
    path = gemma_scope_2(hub.directory / "layer_0")
    values = {name.lower(): value for name, value in matrices(threshold=W.threshold).items()}
    wide = np.zeros((1024, 300), "f4")
    values |= {"w_enc": wide, "w_dec": wide.T, "b_dec": np.zeros(1024), "b_enc": np.zeros(300)}
    values["threshold"] = np.zeros(300)
    safetensors(path / "params.safetensors", tensors(**values))
    reason = refused_without_a_trace(task_for(hub, "layer_0"))
    assert reason == f"The SAE is for activations of width 1024; the layer's are {N_INPUTS} wide."
    assert hub.ranges[1:] == [("params.safetensors", f"bytes=0-{HEAD - 1}")]


def test_what_a_configuration_says_is_refused_before_any_weights_come(hub: FakeHub) -> None:
    path = sae_lens(hub.directory / "a")
    cfg = json.loads((path / "cfg.json").read_text())
    write_json(path / "cfg.json", cfg | {"architecture": "no such"})
    assert "'no such' has no counterpart" in refused_without_a_trace(task_for(hub, "a"))
    assert resolved(hub) == {"a/cfg.json"}


def test_weights_too_large_for_the_layer_are_not_got(hub: FakeHub) -> None:
    path = hub.directory / "a"
    path.mkdir()
    most = 8 * (2 * N_INPUTS + 8) * 10 + 64 * 1024 * 1024
    with (path / "ae.pt").open("wb") as file:
        file.truncate(most + 1)
    reason = refused_without_a_trace(task_for(hub, "a", max_latents=10))
    assert reason == f"ae.pt has {most + 1:,} bytes; the limit is {most:,}."
    assert resolved(hub) == set()


def test_what_only_values_tell_is_refused_by_the_import_and_leaves_nothing(hub: FakeHub) -> None:
    path = hub.directory / "a"
    path.mkdir()
    np.savez(path / "params.npz", **matrices(threshold=W.threshold, b_dec=np.full(N_INPUTS, np.nan)))
    task = task_for(hub, "a")
    get(task)
    with pytest.raises(TaskError, match="NaN"):
        import_got(task)
    assert list(Path(task.artifact_dir).iterdir()) == []


def test_an_import_that_is_broken_off_keeps_what_was_got(hub: FakeHub) -> None:
    gemma_scope(hub.directory / "a")
    task = task_for(hub, "a")
    get(task)
    with pytest.raises(CancelRequested):
        import_got(task, CanceledContext(1))
    assert import_got(task).n_latents == N_LATENTS


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("layer_3/width_16k/canonical", "layer_3/width_16k/average_l0_22, layer_3/width_16k/average_l0_8"),
        ("layer_33/width_16k", "layer_3"),
        ("layer_3/width_16k/average_l0_22/params.npz/x", "."),
    ],
)
def test_a_path_that_is_not_there_is_told_with_what_is_near(path: str, near: str, hub: FakeHub) -> None:
    for l0 in (22, 8):
        gemma_scope(hub.directory / f"layer_3/width_16k/average_l0_{l0}")
    reason = refused_without_a_trace(task_for(hub, path))
    assert reason.startswith(f"The repository {REPOSITORY} has no {path}.") and near in reason


def test_a_folder_of_several_saes_is_refused_with_what_to_name(hub: FakeHub) -> None:
    for l0 in (22, 8):
        gemma_scope(hub.directory / f"all/width_16k/average_l0_{l0}")
    reason = refused_without_a_trace(task_for(hub, "all"))
    assert "holds 2 files and directories that may be SAEs" in reason
    assert "name one, such as width_16k/average_l0_22; width_16k/average_l0_8." in reason
    assert resolved(hub) == set()


def test_a_folder_in_no_format_is_refused_with_the_nearest(hub: FakeHub) -> None:
    path = sae_lens(hub.directory / "a")
    for name in ("cfg.json", "sparsity.safetensors"):
        (path / name).unlink()
    reason = refused_without_a_trace(task_for(hub, "a"))
    assert "in no format that is known" in reason and "nearest format is SAELens" in reason


def test_a_folder_of_too_many_files_is_not_looked_through(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae_lens(hub.directory / "a")
    monkeypatch.setattr(hub_folders, "MAX_ENTRIES", 2)
    assert "more than 2 entries" in refused_without_a_trace(task_for(hub, "a"))


def test_files_whose_names_lead_elsewhere_are_none(hub: FakeHub) -> None:
    path = gemma_scope(hub.directory / "a")
    (path / "..\\b.npz").write_bytes(b"")
    get(task_for(hub, "a"))
    assert resolved(hub) == {"a/params.npz"}


def test_why_the_hub_gives_nothing_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    gemma_scope(hub.directory / "a")
    begin = "could not be had from the Hub: "
    hub.is_gated = True
    reason = refused_without_a_trace(task_for(hub, "a"))
    assert f"The SAE {REPOSITORY}/a {begin}The repository is gated" in reason
    hub.is_gated = False
    other = task_for(hub, "a", source=HubSae("owner/other", "a", None))
    assert f"{begin}The Hub has no such repository" in refused_without_a_trace(other)
    missing = task_for(hub, "a", "e" * 40)
    assert f"{begin}The repository has no such revision" in refused_without_a_trace(missing)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in refusal(task_for(hub, "a")).reason


def test_an_import_without_its_files_says_so(hub: FakeHub) -> None:
    with pytest.raises(TaskError, match="this server takes none from the Hugging Face Hub"):
        import_got(task_for(hub, "a"))
