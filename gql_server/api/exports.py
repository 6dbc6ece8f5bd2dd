"""SAEs in the formats of other libraries."""

from datetime import datetime
from enum import StrEnum

import strawberry

from gql_server.api.common import BigInt, describe_enum, object_type


class SaeExportFormat(StrEnum):
    """A format of another library."""

    SAE_LENS = "SAE_LENS"


describe_enum(
    SaeExportFormat,
    "A format of another library.",
    {"SAE_LENS": "A directory with cfg.json and sae_weights.safetensors, as SAELens reads it."},
)


@object_type
class SaeExport:
    """An SAE in the format of another library."""

    format: SaeExportFormat = strawberry.field(description="The format.")
    url: str = strawberry.field(
        description="Where this server hands out a ZIP file of it, under the same access rules as the API."
    )
    byte_size: BigInt = strawberry.field(description="Bytes of the ZIP file.")
    created_at: datetime = strawberry.field(description="When it was written.")
