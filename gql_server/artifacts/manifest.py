"""What a stored run says of itself: ``plan.json``, then ``batch.json`` in each batch, then ``manifest.json``.

The plan is written before the first batch and each batch comes with its record, so whatever ends a capture,
the manifest can be put together from what is there.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from gql_server.artifacts.files import atomic_write
from gql_server.artifacts.provenance import RunProvenance

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
PLAN_FILE = "plan.json"
RECORD_FILE = "batch.json"
Plan = TypeVar("Plan")


class ManifestLanguageModel(msgspec.Struct, frozen=True):
    """The language model whose activations are stored."""

    id: str
    source_kind: str
    location: str
    revision: str | None
    dtype: str


class ManifestLayer(msgspec.Struct, frozen=True):
    """A stored layer; its width is None until a batch is there."""

    name: str
    hidden_size: int | None


class ManifestDataset(msgspec.Struct, frozen=True):
    """The texts; ``sha256`` is over those selected by offset and limit, each after its length in bytes."""

    kind: str
    description: str
    sha256: str
    sample_offset: int
    sample_limit: int | None
    sample_count: int
    """Texts in the whole dataset."""
    directory: str
    """Its name under the artifact directory's datasets."""
    skipped_row_count: int = 0
    """Bad rows of the source that are not among the texts."""


class NotFinite(msgspec.Struct, frozen=True):
    """Tokens that would count, but for values that are NaN or infinite: the mask leaves them out."""

    in_model: int = 0
    """Tokens with such a value in the language model's own output."""
    as_stored: int = 0
    """Tokens with such a value in the stored precision alone."""
    rows: list[int] = []
    """The rows in the dataset of the texts that have such tokens."""
    layers: list[str] = []

    @property
    def token_count(self) -> int:
        """All of them."""
        return self.in_model + self.as_stored


class ManifestBatch(msgspec.Struct, frozen=True):
    """A stored batch: ``shape`` is [n_texts, n_positions]; the lists have an entry for each text."""

    index: int
    rows: list[int]
    """The texts' row numbers in the dataset."""
    lengths: list[int]
    """Tokens of each text as captured, special tokens among them; the other positions are padding."""
    shape: list[int]
    token_count: int
    byte_size: int
    not_finite: NotFinite | None = None
    """None where an earlier version has stored it, which has not looked."""
    pieces: list[int] = []
    """Which piece of its text each is, from 0, where long texts are split; else there is none."""


class BatchRecord(msgspec.Struct, frozen=True):
    """What stands in a batch's directory beside its tensors."""

    batch: ManifestBatch
    widths: dict[str, int]
    """Values per token of each layer."""
    sha256: dict[str, str]
    """Of each file of tensors, by its path in the batch's directory."""


class PlannedBatch(msgspec.Struct, frozen=True):
    """The dataset rows of a batch, and how many tokens each has, special ones among them."""

    rows: list[int]
    lengths: list[int]
    pieces: list[int] = []
    """As a ManifestBatch's."""


class Manifest(msgspec.Struct, frozen=True):
    """A run. Tokens that count are neither padding nor special."""

    format_version: int
    run_id: str
    language_model: ManifestLanguageModel
    layers: list[ManifestLayer]
    dataset: ManifestDataset
    max_length: int
    batch_size: int
    dtype: str
    special_token_ids: list[int]
    sample_count: int
    """Texts that are stored, with at least one of their pieces."""
    token_count: int
    byte_size: int
    batches: list[ManifestBatch]
    versions: dict[str, str]
    created_at: str
    complete: bool = True
    """Whether all planned batches are there."""
    long_texts: str = "TRUNCATE"
    """Of texts with more than ``max_length`` tokens their beginning is captured, or all in pieces: SPLIT."""
    truncated_text_count: int | None = None
    """Selected texts of which something was cut off; None in manifests of earlier versions."""
    piece_count: int | None = None
    """Pieces that are stored, a text that was not split being one; None as above."""
    non_finite_token_count: int | None = None
    """Tokens left out for values that are not finite; None where an earlier version has stored batches."""
    provenance: RunProvenance | None = None
    """What it takes to capture the same again; None in manifests of earlier versions."""
    begin_token_ids: list[int] | None = None
    """What was written before each text that did not begin so by itself; None in manifests of earlier
    versions, which wrote what the tokenizer does in any case."""


class RunPlan(msgspec.Struct, frozen=True):
    """What a capture is going to store: the manifest to be, still without batches and counts."""

    manifest: Manifest
    batches: list[PlannedBatch]
    tokens_per_pass: int | None = None
    """Which texts go through the model together depends on it, and so do the last bits of what is stored;
    None in plans of earlier versions, where it depends on the device."""


class _PlanOutline(msgspec.Struct, frozen=True):
    """A plan whose batches, which may tell of a million texts, are not taken apart."""

    manifest: Manifest
    batches: list[msgspec.Raw]


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest whole."""
    atomic_write(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def write_plan(run_directory: Path, plan: RunPlan) -> None:
    """Write a run's plan whole."""
    atomic_write(run_directory / PLAN_FILE, msgspec.json.encode(plan))


def read_plan(run_directory: Path) -> RunPlan | None:
    """Return a run's plan, or None where there is none that can be read."""
    return _read_plan(run_directory, RunPlan)


def _read_plan(run_directory: Path, type_: type[Plan]) -> Plan | None:
    try:
        return msgspec.json.decode((run_directory / PLAN_FILE).read_bytes(), type=type_)
    except (OSError, msgspec.DecodeError):
        return None


def read_record(batch_directory: Path) -> BatchRecord | None:
    """Return a batch's record, or None where there is none that can be read."""
    try:
        return msgspec.json.decode((batch_directory / RECORD_FILE).read_bytes(), type=BatchRecord)
    except (OSError, msgspec.DecodeError):
        return None


def whole_batch(batch_directory: Path) -> ManifestBatch | None:
    """Return what a batch's record says of it; None where it lacks one, or its files have another size."""
    record = read_record(batch_directory)
    if record is None or record.batch.byte_size != bytes_of(batch_directory):
        return None
    return record.batch


def bytes_of(batch_directory: Path) -> int:
    """Return the size of a batch's files, its record aside."""
    files = (path for path in batch_directory.rglob("*") if path.is_file() and path.name != RECORD_FILE)
    return sum(file.stat().st_size for file in files)


def assemble(run_directory: Path) -> Manifest | None:
    """Put the manifest together from a run's plan and the batches that are there; None without a plan."""
    plan = _read_plan(run_directory, _PlanOutline)
    if plan is None:
        return None
    places = (run_directory / f"batch_{index}" for index in range(len(plan.batches)))
    records = [record for place in places if (record := read_record(place)) is not None]
    batches = [record.batch for record in records]
    widths = records[0].widths if records else {}
    found = [batch.not_finite for batch in batches if batch.not_finite is not None]
    non_finite = sum(one.token_count for one in found) if len(found) == len(batches) else None
    provenance = plan.manifest.provenance
    return msgspec.structs.replace(
        plan.manifest,
        layers=[ManifestLayer(layer.name, widths.get(layer.name)) for layer in plan.manifest.layers],
        sample_count=_text_count(batches),
        piece_count=sum(len(batch.rows) for batch in batches),
        token_count=sum(batch.token_count for batch in batches),
        byte_size=sum(batch.byte_size for batch in batches),
        batches=batches,
        complete=len(batches) == len(plan.batches),
        non_finite_token_count=non_finite,
        provenance=provenance and msgspec.structs.replace(provenance, non_finite_token_count=non_finite),
    )


def _text_count(batches: list[ManifestBatch]) -> int:
    if not any(batch.pieces for batch in batches):
        return sum(len(batch.rows) for batch in batches)
    return len({row for batch in batches for row in batch.rows})


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises OSError where there is none, msgspec.DecodeError where it is none."""
    return msgspec.json.decode(path.read_bytes(), type=Manifest)
