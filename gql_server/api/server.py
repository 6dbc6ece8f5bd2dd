"""What this server can do."""

import strawberry

import gql_server
from gql_server.api.common import field, object_type
from gql_server.api.context import Info
from gql_server.services import interactive


@object_type
class Server:
    """What this server can do."""

    version: str = strawberry.field(description="Its release.")
    hub_enabled: bool = strawberry.field(
        description="Whether Hugging Face repositories may be named as sources."
    )

    @field
    async def sae_classes(self, info: Info) -> list[str]:
        """Names of the SAE classes that can be trained."""
        worker = await interactive.describe(info.context.server)
        return [sae_class.name for sae_class in worker.sae_classes]

    @field
    async def devices(self, info: Info) -> list[str]:
        """Where a training can be computed; the first is where this server computes if not told."""
        return (await interactive.describe(info.context.server)).devices


@strawberry.type
class ServerQueries:
    """Queries about the server."""

    @field
    async def server(self, info: Info) -> Server:
        """This server, and what it can do."""
        hub_enabled = info.context.server.settings.hub_enabled
        return Server(version=gql_server.__version__, hub_enabled=hub_enabled)
