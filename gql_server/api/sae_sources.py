"""The formats that SAEs are imported from."""

from enum import StrEnum

from gql_server.api.common import describe_enum
from gql_server.formats.sae_sources.registry import FORMATS


class SaeSourceFormat(StrEnum):
    """A format that SAEs are imported from."""

    SAE_LENS = "SAE_LENS"
    MI_CROW = "MI_CROW"


describe_enum(
    SaeSourceFormat,
    "A format that SAEs are imported from; more may come. docs/import-export.md says what of each.",
    {name: f"{found.title}: {found.layout}." for name, found in FORMATS.items()},
)
