"""Prompts as chats: what a language model's chat template makes of them."""

from collections.abc import Sequence

from gql_server.errors import Conflict, InvalidInput
from gql_server.model_files.chat_templates import NotRendered, chats
from gql_server.processes.reader_pool import refusing
from gql_server.protocol.tasks import LoadLanguageModel
from gql_server.services import artifacts, interactive
from gql_server.services.app_context import AppContext
from models import LanguageModel


async def rendered(server: AppContext, language_model: LanguageModel, prompts: Sequence[str]) -> list[str]:
    """Return each prompt as a user's message to be answered; the model is loaded where need be.

    Raises:
        InvalidInput: There is no template, or it cannot be used.
        Conflict: The model cannot be loaded.
    """
    found = await _rendered(server, language_model, prompts)
    if found is None:
        load = LoadLanguageModel(artifacts.language_model_source(server.settings, language_model))
        with server.in_use.by_request(language_model.id):
            await interactive.finish(server, await interactive.start(server, load))
        found = await _rendered(server, language_model, prompts)
    if found is None:
        raise Conflict("The language model's chat template was not found; try again.", language_model.id)
    return found


async def _rendered(
    server: AppContext, language_model: LanguageModel, prompts: Sequence[str]
) -> list[str] | None:
    directory = artifacts.copy_directory(server.settings, language_model.id)
    with refusing("chat", "The language model's chat template cannot be used"):
        found = await server.readers.prompts.run(chats, directory, list(prompts))
    if isinstance(found, NotRendered):
        raise InvalidInput.at("chat", found.problem)
    return found
