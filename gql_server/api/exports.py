"""SAEs from other libraries and in their formats: importSae and exportSae."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import strawberry

from gql_server.api.common import (
    BigInt,
    argument,
    describe_enum,
    field,
    input_type,
    mutation,
    object_type,
    one_of_input_type,
    request_of,
)
from gql_server.api.context import Info
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.services import sae_exports, sae_imports
from gql_server.services.requests import ExportSaeRequest, ImportSaeRequest
from models import Sae as SaeRow


class SaeExportFormat(StrEnum):
    """A format in which an SAE, or what is known of its neurons, is written for others."""

    SAE_LENS = "SAE_LENS"
    DICTIONARY_LEARNING = "DICTIONARY_LEARNING"
    SPARSIFY = "SPARSIFY"
    NEURONPEDIA = "NEURONPEDIA"
    PARQUET = "PARQUET"


describe_enum(
    SaeExportFormat,
    "A format in which an SAE, or what is known of its neurons, is written for others.",
    {
        "SAE_LENS": "A directory with cfg.json and sae_weights.safetensors, as SAELens reads it.",
        "DICTIONARY_LEARNING": "ae.pt and config.json, as dictionary_learning reads them.",
        "SPARSIFY": "cfg.json and sae.safetensors, as sparsify reads them; of topk SAEs alone.",
        "NEURONPEDIA": (
            "Not the SAE, but its neurons: statistics, names and top texts as JSON lines in Neuronpedia's"
            " layout. It needs a neuron index."
        ),
        "PARQUET": (
            "The same as one Parquet file, a row a neuron, with all that the index has. It needs one."
        ),
    },
)


@object_type
class SaeExport:
    """An SAE, or its neurons, in a format that others read."""

    format: SaeExportFormat = strawberry.field(description="The format.")
    path: strawberry.Private[str]
    byte_size: BigInt = strawberry.field(description="Bytes of the ZIP file.")
    created_at: datetime = strawberry.field(description="When it was written.")

    @field
    def url(self, info: Info) -> str:
        """Where this server hands out a ZIP file of it, under the same access rules as the API."""
        return info.context.server.settings.root_path + self.path


def exports_of(row: SaeRow) -> list[SaeExport]:
    """Return what has been written of an SAE, newest first."""
    return [_export(row.id, one) for one in row.exports or []]


def _export(sae_id: str, export: dict[str, Any]) -> SaeExport:
    return SaeExport(
        format=SaeExportFormat(export["format"]),
        path=f"/exports/{sae_id}/{export['format'].lower()}.zip",
        byte_size=export["byte_size"],
        created_at=datetime.fromisoformat(export["created_at"]),
    )


# ------------------------------------------------------------------------------- mutations

_KEY = (
    "A second request with the same key returns the first one's job; with the key but another input it is a"
    " Conflict."
)


@input_type
class HuggingFaceSaeInput:
    """An SAE of the Hugging Face Hub."""

    repository: str = strawberry.field(description="Owner and name, as the Hub spells them.")
    path: str = strawberry.field(
        default="",
        description=(
            "A directory or a file in it, as SaeSourceInput.path; all of it if left out. In layouts without a"
            " configuration it says what the SAE is."
        ),
    )
    revision: str | None = strawberry.field(
        description="A branch, tag or commit; its main branch if left out."
    )


@one_of_input_type
class SaeSourceInput:
    """Where somebody else's SAE lies."""

    sae_lens: str | None = strawberry.field(
        description=(
            "A directory with cfg.json and sae_weights.safetensors, under one of the server's model"
            " directories."
        )
    )
    mi_crow: str | None = strawberry.field(
        description=(
            "A checkpoint that a mi_crow SAE class saved, under one of the server's model directories."
        )
    )
    path: str | None = strawberry.field(
        description=(
            "A directory or a file in any format that is known (SaeSourceFormat), under one of the server's"
            " model directories: the server finds out which. Of a directory with several SAEs, name one."
        )
    )
    hugging_face: HuggingFaceSaeInput | None = strawberry.field(
        description=(
            "A directory or a file of a repository of the Hugging Face Hub, in any format that is known. The"
            " job gets the files that are needed, and says what is wrong with them."
        )
    )


@input_type
class ImportSaeInput:
    """An SAE to import."""

    language_model_id: strawberry.ID = strawberry.field(description="The model whose activations it is for.")
    layer: str | None = strawberry.field(
        description=(
            "The layer that it was made for, as Layer.name; of a transcoder the one that it reads. If left"
            " out, it is the one that its files name, in TransformerLens' words or Hugging Face's, or that"
            " its path names."
        )
    )
    output_layer: str | None = strawberry.field(
        description=(
            "The layer that a transcoder writes, as Layer.name; worked out from the source's names where it"
            " is left out, if they tell."
        ),
    )
    name: str | None = strawberry.field(description="A name for people; made up if left out.")
    source: SaeSourceInput = strawberry.field(description="Where it lies.")
    check_fit: bool = strawberry.field(
        default=True,
        description=(
            "Whether the job runs a few built-in texts through the language model, which it loads for that,"
            " and says what the SAE reconstructs of them (Sae.fit)."
        ),
    )
    input_scale: float | None = strawberry.field(
        default=None,
        description=(
            "What activations were multiplied by before the SAE took them in its training, where its files"
            " leave that out (SAELens: expected_average_only_in, norm_scaling_factor); it is folded into the"
            " weights. From 0.000001 to 1,000,000."
        ),
    )
    center_inputs: bool | None = strawberry.field(
        default=None,
        description=(
            "Whether each token's mean was taken out of activations before (TransformerLens:"
            " center_writing_weights); the encoder takes it out then. If left out, as its source says, where"
            " that is exact."
        ),
    )
    idempotency_key: str | None = strawberry.field(description=_KEY)

    def request(self) -> ImportSaeRequest:
        """Return what the service is asked for."""
        source = self.source
        if isinstance(source.hugging_face, HuggingFaceSaeInput):
            hub = source.hugging_face
            return self._request(None, hub.path, hub.repository, hub.revision)
        given: dict[Literal["SAE_LENS", "MI_CROW"] | None, str | None] = {
            "SAE_LENS": source.sae_lens,
            "MI_CROW": source.mi_crow,
            None: source.path,
        }
        format, path = next((name, path) for name, path in given.items() if isinstance(path, str))
        return self._request(format, path)

    def _request(
        self,
        format: Literal["SAE_LENS", "MI_CROW"] | None,
        path: str,
        repository: str | None = None,
        revision: str | None = None,
    ) -> ImportSaeRequest:
        return ImportSaeRequest(
            language_model_id=self.language_model_id,
            layer=self.layer,
            name=self.name,
            format=format,
            path=path,
            idempotency_key=self.idempotency_key,
            output_layer=self.output_layer,
            repository=repository,
            revision=revision,
            check_fit=self.check_fit,
            input_scale=self.input_scale,
            center_inputs=self.center_inputs,
        )


@input_type
class ExportSaeInput:
    """An SAE to export."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE.")
    format: SaeExportFormat = strawberry.field(default=SaeExportFormat.SAE_LENS, description="The format.")
    idempotency_key: str | None = strawberry.field(description=_KEY)

    def request(self) -> ExportSaeRequest:
        """Return what the service is asked for."""
        return request_of(ExportSaeRequest, self, format=self.format.value)


@strawberry.type
class ExportMutations:
    """Mutations that import and export SAEs."""

    @mutation
    async def import_sae(
        self, info: Info, input: Annotated[ImportSaeInput, argument("What to import.")]
    ) -> LaunchResult:
        """Queues a job that takes over an SAE which was trained elsewhere, where that can be done exactly."""
        return job_launched(await sae_imports.import_(info.context.server, input.request()))

    @mutation
    async def export_sae(
        self, info: Info, input: Annotated[ExportSaeInput, argument("What to export.")]
    ) -> LaunchResult:
        """Queues a job that writes an SAE, or its neurons, for others; Sae.exports says where to get it."""
        return job_launched(await sae_exports.export(info.context.server, input.request()))
