"""/metrics: all metrics, for Prometheus to scrape."""

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from gql_server.jobs import queue
from gql_server.jobs.supervisor import LANES
from gql_server.services.app_context import AppContext

log = structlog.get_logger(__name__)


async def metrics(request: Request) -> Response:
    """Answer with all metrics; without the jobs in the database where that cannot be read."""
    server: AppContext = request.app.state.server
    try:
        async with server.database.read() as session:
            counts = await queue.counts(session)
    except SQLAlchemyError:
        log.exception("jobs could not be counted")
        server.telemetry.metrics.jobs.unknown()
    else:
        server.telemetry.metrics.jobs.stand(counts, LANES)
    body, content_type = server.telemetry.metrics.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})
