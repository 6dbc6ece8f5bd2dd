"""The formats that SAEs are imported from."""

from enum import StrEnum

import strawberry

from gql_server.api.common import describe_enum, object_type
from gql_server.formats.sae_sources.registry import FORMATS


class SaeSourceFormat(StrEnum):
    """A format that SAEs are imported from."""

    SAE_LENS = "SAE_LENS"
    MI_CROW = "MI_CROW"
    GEMMA_SCOPE = "GEMMA_SCOPE"
    GEMMA_SCOPE_2 = "GEMMA_SCOPE_2"
    LLAMA_SCOPE = "LLAMA_SCOPE"
    LLAMASCOPIUM = "LLAMASCOPIUM"
    SPARSIFY = "SPARSIFY"
    DICTIONARY_LEARNING = "DICTIONARY_LEARNING"
    QWEN_SCOPE = "QWEN_SCOPE"
    GOODFIRE = "GOODFIRE"
    QRESEARCH = "QRESEARCH"
    OPENAI = "OPENAI"
    CIRCUIT_TRACER = "CIRCUIT_TRACER"


describe_enum(
    SaeSourceFormat,
    "A format that SAEs are imported from; more may come. docs/import-export.md says what of each.",
    {name: f"{found.title}: {found.layout}." for name, found in FORMATS.items()},
)


@object_type
class HuggingFaceSae:
    """An SAE of the Hugging Face Hub."""

    repository: str = strawberry.field(description="Owner and name.")
    path: str = strawberry.field(
        description="Of the directory or the file in it, as it was asked for; empty for all of it."
    )
    revision: str | None = strawberry.field(
        description=(
            "The branch, tag or commit, where one was named; in SaeProvenance the commit that was read."
        )
    )
