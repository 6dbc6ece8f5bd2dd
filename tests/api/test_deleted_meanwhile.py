"""What is deleted while an operation reads is not found, which is no fault of the server's."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gql_server import ids
from gql_server.api import language_models, saes
from gql_server.api.context import Context
from gql_server.errors import NotFound
from gql_server.server import Server


@pytest.mark.parametrize(
    ("read", "kind"),
    [(saes.sae_row_of, ids.SAE), (language_models.language_model_of, ids.LANGUAGE_MODEL)],
)
async def test_what_a_foreign_key_names_and_has_gone_is_not_found(
    server: Server, read: Callable[[Any, str], Awaitable[object]], kind: str
) -> None:
    info = SimpleNamespace(context=Context(server))
    with pytest.raises(NotFound, match=kind):
        await read(info, ids.new(kind))
