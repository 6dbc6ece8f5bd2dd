"""What this server can do."""

import strawberry

import gql_server
from gql_server.api.common import field, object_type
from gql_server.api.context import Info


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
        worker = await info.context.server.executor.describe()
        return [sae_class.name for sae_class in worker.sae_classes]

    @field
    async def devices(self, info: Info) -> list[str]:
        """Where a training can be computed, best first."""
        return (await info.context.server.executor.describe()).devices


@strawberry.type
class ServerQueries:
    """Queries about the server."""

    @field
    async def server(self, info: Info) -> Server:
        """This server, and what it can do."""
        hub_enabled = info.context.server.settings.hub_enabled
        return Server(version=gql_server.__version__, hub_enabled=hub_enabled)
