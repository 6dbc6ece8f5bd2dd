"""Previews: what can be told of a dataset before anything is made of it."""

from gql_server.errors import InvalidInput
from gql_server.processes.reader_pool import refusing
from gql_server.services import artifacts, dataset_staging, lookup, texts
from gql_server.services.app_context import AppContext
from gql_server.services.cursors import check_first
from gql_server.services.language_models import check_loaded_once
from gql_server.services.requests import DatasetRequest
from gql_server.services.text_taking import NotTaken, Previewed, preview
from gql_server.services.tokenizing import TokenizerFiles
from models import LanguageModel

MAX_BYTES = 2 * 2**20
"""Of the texts that are shown."""
NOT_HERE = (
    "A dataset of the Hugging Face Hub is not here before a capture has got it: look at it there, or capture "
    "a few of its texts by sampleLimit."
)


async def look(
    server: AppContext, request: DatasetRequest, language_model_id: str | None, first: int
) -> Previewed:
    """Return what the beginning of a dataset tells of it; nothing is kept.

    Args:
        server: The server.
        request: The dataset; none of the Hub, which would have to be downloaded.
        language_model_id: The language model whose tokens are counted.
        first: The number of texts to show, 1 to 100.

    Raises:
        InvalidInput: The dataset cannot be read, or is one of the Hub.
        NotFound: There is no such dataset or language model.
        Conflict: The dataset's texts are gone, or the language model was never loaded.
        QueueFull: Too many files wait to be read, or there is no room for the upload.
    """
    check_first(first)
    settings = server.settings
    tokenizer = await _tokenizer(server, language_model_id) if language_model_id is not None else None
    with server.in_use.by_reader(request.dataset_id):
        found = await texts.describe(server, request)
        if found.source is None:
            raise InvalidInput.at(found.path, NOT_HERE)
        options = dataset_staging.reading_options(settings, request)
        async with dataset_staging.on_disk(settings, request, found.source) as source:
            with refusing(found.path, f"{found.description} cannot be read"):
                made = await server.readers.files.run(preview, source, options, first, MAX_BYTES, tokenizer)
    if isinstance(made, NotTaken):
        raise InvalidInput.at(found.path, made.problem)
    return made


async def _tokenizer(server: AppContext, language_model_id: str) -> TokenizerFiles:
    async with server.database.read() as session:
        language_model = await lookup.get(session, LanguageModel, language_model_id)
    check_loaded_once(language_model)
    directory = artifacts.copy_directory(server.settings, language_model_id)
    return TokenizerFiles.of(directory, language_model)
