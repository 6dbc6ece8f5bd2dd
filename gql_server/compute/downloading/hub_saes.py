"""An SAE's files on the Hugging Face Hub, got into a directory of the server's own.

What the formats ask for is what is got: at first the list of a folder, its configurations, and of safetensors
the header alone. Weights come once it is known that the SAE can be taken over, as far as these tell.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import hf_hub_url

from gql_server.artifacts.disk import check_free, used_bytes
from gql_server.artifacts.file_hashes import sha256_of
from gql_server.compute.downloading.downloaded_saes import DownloadedSae, note
from gql_server.compute.downloading.hub_folders import HubFile, HubFolder, candidates, commit_now, look
from gql_server.compute.downloading.resuming import get_until
from gql_server.compute.downloading.silence import Silence
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.description import SaeDescription, most_bytes
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import MAX_JSON_BYTES, SourceFiles
from gql_server.formats.sae_sources.tensor_files import MAX_HEADER_BYTES, TensorFile
from gql_server.protocol.tasks import DownloadSae

_PARTIAL = ".part"
"""Suffix of a file of which the first bytes are there."""
_CHECKPOINT_SIZES = 2
"""The checkpoint that comes of weights in half precision is twice as large."""


class SaeDownload:
    """Gets an SAE's files. Those of a download that was broken off are gone on with."""

    def __init__(self, task: DownloadSae) -> None:
        self._task, self.source = task, task.source
        self._give_up = threading.Event()
        self._directory = Path(task.directory)
        self._received = 0
        self._sizes: dict[str, int] = {}
        """Of files that are there, or are to come whole."""
        self._total: int | None = None

    def count(self) -> tuple[int, int]:
        """Return how many bytes are there, and how many have come."""
        total = 0
        for file in self._directory.rglob("*"):
            with suppress(FileNotFoundError):
                total += file.stat().st_size if file.is_file() else 0
        return total, self._received

    def total(self) -> int | None:
        """Return how many there will be, where that is known."""
        return self._total

    def get(self, give_up: threading.Event) -> None:
        """Get all that an import needs, until ``give_up`` is set.

        Raises:
            NotRepresentable: Why the SAE cannot be taken over.
            TaskError: There is no room for it.
            Silence: It was given up.
            Exception: Whatever huggingface_hub and httpx do.
        """
        self._give_up = give_up
        commit = commit_now(self.source)
        self._begin(commit)
        folder = look(self.source, commit)
        files = _HubFiles(self, folder, commit)
        described = self._describe(files, folder, commit)
        self._want(folder, described.files)
        for name in described.files:
            self.get_whole(commit, name, folder.files[name], described.most_bytes)
        note(self._directory, DownloadedSae(commit, described.format, list(described.files)))

    def _begin(self, commit: str) -> None:
        """Make the directory; what there is of another commit goes."""
        (self._directory / commit).mkdir(parents=True, exist_ok=True)
        for other in self._directory.iterdir():
            if other.name != commit:
                shutil.rmtree(other, ignore_errors=True)

    def _describe(self, files: "_HubFiles", folder: HubFolder, commit: str) -> SaeDescription:
        task = self._task
        limit = None if task.n_inputs is None else most_bytes(task.n_inputs, task.max_latents)
        while True:
            try:
                if folder.chosen is None and registry.matching(files) is None:
                    found = candidates(self.source, commit, folder.path)
                    if found:
                        raise registry.choose_one(found)
                described = registry.find(files)
                described.check_fits(task.n_inputs, task.max_latents)
                return described
            except _WholeNeeded as needed:
                self._want(folder, [needed.name])
                self.get_whole(commit, needed.name, folder.files[needed.name], limit)

    def _want(self, folder: HubFolder, names: Sequence[str]) -> None:
        self._sizes |= {name: folder.files[name].byte_size for name in names}
        self._total = sum(self._sizes.values())

    def get_whole(self, commit: str, name: str, file: HubFile, most: int | None) -> None:
        """Get a file, unless it is there.

        Raises NotRepresentable where it is larger than ``most``, TaskError where it is damaged.
        """
        target = self.path(commit, name)
        self._sizes[name] = file.byte_size
        if target.exists():
            return
        if most is not None and file.byte_size > most:
            raise NotRepresentable(f"{name} has {file.byte_size:,} bytes; the limit is {most:,}.")
        self._check_room(file.byte_size, self.part(commit, name))
        self.get_part(commit, name, file, file.byte_size)
        part = self.part(commit, name)
        # To read it again is no silence either.
        if file.sha256 is not None and sha256_of(part, lambda: self._on_bytes(1)) != file.sha256:
            part.unlink()
            raise TaskError(f"{name} has come damaged from the Hub. Retry the job.", "CONFLICT")
        part.rename(target)

    def get_part(self, commit: str, name: str, file: HubFile, until: int) -> None:
        """Get the first bytes of a file, unless so many are there."""
        part = self.part(commit, name)
        part.parent.mkdir(parents=True, exist_ok=True)
        get_until(hf_hub_url(self.source.repository, file.path, revision=commit), part, until, self._on_bytes)

    def path(self, commit: str, name: str) -> Path:
        """Return where a whole file lies."""
        return self._directory / commit / name

    def part(self, commit: str, name: str) -> Path:
        """Return where one lies of which the first bytes are there."""
        return self._directory / commit / f"{name}{_PARTIAL}"

    def _on_bytes(self, n_bytes: int) -> None:
        self._received += n_bytes
        if self._give_up.is_set():
            raise Silence

    def _check_room(self, byte_size: int, part: Path) -> None:
        had = part.stat().st_size if part.exists() else 0
        needed = byte_size - had + _CHECKPOINT_SIZES * byte_size
        check_free(self._directory, needed, self._task.min_free_bytes)
        limit = self._task.max_artifact_bytes
        if limit is None:
            return
        room = max(0, limit - used_bytes(Path(self._task.artifact_dir)))
        if needed > room:
            raise TaskError(
                f"The SAE would take about {needed / 1e6:,.1f} MB, and there is room for"
                f" {room / 1e6:,.1f} MB: delete runs or SAEs, and retry the job.",
                "CONFLICT",
            )


class _WholeNeeded(Exception):
    """What a format asks for is told by a file that has not come whole."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _HubFiles(SourceFiles):
    """Files of a folder on the Hub, of which as much is got as is asked for."""

    def __init__(self, download: SaeDownload, folder: HubFolder, commit: str) -> None:
        super().__init__(download.source.place, list(folder.files), folder.chosen, self._open)
        self._download, self._files, self._commit = download, folder.files, commit

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file, or its first bytes followed by zeros."""
        whole = self._download.path(self._commit, name)
        if whole.exists():
            with whole.open("rb") as file:
                yield file
            return
        part = self._download.part(self._commit, name)
        with part.open("rb") as first, tempfile.TemporaryFile(dir=whole.parent) as file:
            file.write(first.read(8 + MAX_HEADER_BYTES))
            file.truncate(self._files[name].byte_size)
            yield file

    def json(self, name: str) -> dict[str, object]:
        """Get a file of JSON, which is small, and return its object."""
        self._download.get_whole(self._commit, name, self._files[name], MAX_JSON_BYTES)
        return super().json(name)

    def tensors(self, name: str) -> TensorFile:
        """Return what a file says of its tensors, of safetensors by its first bytes."""
        if not self._download.path(self._commit, name).exists():
            if not name.endswith(".safetensors"):
                raise _WholeNeeded(name)
            file = self._files[name]
            self._download.get_part(self._commit, name, file, min(file.byte_size, 8 + MAX_HEADER_BYTES))
        return super().tensors(name)

    def scalar(self, name: str, tensor: str) -> float:
        """Return the number that a tensor of a file has, which has to be there."""
        if not self._download.path(self._commit, name).exists():
            raise _WholeNeeded(name)
        return super().scalar(name, tensor)
