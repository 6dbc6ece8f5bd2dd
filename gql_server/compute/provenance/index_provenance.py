"""A neuron index's provenance."""

from pathlib import Path

import msgspec

from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.files import atomic_write
from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.provenance import PROVENANCE_FILE, IndexProvenance
from gql_server.compute.provenance.provenance import versions
from gql_server.compute.saes.classes import CHECKPOINT
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from gql_server.compute.worker.context import TaskContext
from gql_server.protocol.results import IndexResult
from gql_server.protocol.tasks import IndexNeurons


def with_provenance(
    result: IndexResult, task: IndexNeurons, context: TaskContext, store: ActivationStore
) -> IndexResult:
    """Write an index's provenance beside its tensors, and add it to the result."""
    manifest = read_manifest(store.manifest_path(task.run_id))
    provenance = IndexProvenance(
        sae_id=task.sae.id,
        sae_checkpoint_sha256=sha256_of(Path(task.sae.directory) / CHECKPOINT, context.check),
        activation_run_id=task.run_id,
        run=manifest.provenance,
        batch_count=len(manifest.batches),
        top_texts_per_neuron=task.top_texts_per_neuron,
        metric_definitions_version=DEFINITIONS_VERSION,
        versions=versions(),
        exclude_first_positions=result.exclusions.first_positions,
        exclude_outliers=result.exclusions.outliers,
        median_norm=result.exclusions.median_norm,
        excluded_token_count=result.excluded_token_count,
        non_finite_token_count=result.non_finite_token_count,
        language_model=result.language_model,
    )
    atomic_write(store.run_directory(task.index_id) / PROVENANCE_FILE, msgspec.json.encode(provenance))
    return msgspec.structs.replace(result, provenance=provenance)
