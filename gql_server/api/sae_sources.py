"""The formats that SAEs are imported from."""

from enum import StrEnum

from gql_server.api.common import describe_enum
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
