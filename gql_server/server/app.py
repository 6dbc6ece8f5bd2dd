"""Puts the server together: a Starlette application and what lives as long as it does."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Lifespan, Receive, Scope, Send
from strawberry.http.websocket_origin import normalize_allowed_origins

from gql_server import __version__
from gql_server.api.transport import explorer, graphiql, sign_in
from gql_server.api.transport.access import Access
from gql_server.api.transport.compression import Compression
from gql_server.api.transport.guard import Guard
from gql_server.api.transport.prefix import PathPrefix
from gql_server.api.transport.static_files import BundledFiles
from gql_server.api.transport.view import GraphQLView
from gql_server.database.database import Database
from gql_server.jobs.downloads import Downloads
from gql_server.jobs.local_executor import LocalExecutor
from gql_server.jobs.notifier import Notifier
from gql_server.jobs.supervisor import Supervisor
from gql_server.limits.rate_limits import Rates
from gql_server.processes.reader_pool import Readers
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound
from gql_server.server import health, metrics_endpoint
from gql_server.server.health import Health
from gql_server.services import artifacts, job_kinds, language_models, lookup, retention, startup
from gql_server.services.app_context import AppContext
from gql_server.settings import Settings
from gql_server.telemetry.request_middleware import RequestTelemetryMiddleware
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import Tracer
from models import Sae

log = structlog.get_logger(__name__)

WARM_UP_DELAY_SECONDS = 1.0
"""The workers' imports take a processor each; the first answers come before that."""

LOOK_SECONDS = 2.0
"""Between two looks at whether the database is where it was."""

LAST_SPANS_SECONDS = 1.0
"""How long a collector may take for the spans that are left when the server stops."""


def create_app(settings: Settings) -> Starlette:
    """Return the application; its lifespan opens the database and starts the supervisor."""
    telemetry = Telemetry(tracer=Tracer(settings.otlp_endpoint))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running(settings, telemetry) as server:
            bind_server(app, server)
            yield

    return application(settings, telemetry, lifespan)


def bind_server(app: Starlette, server: AppContext) -> None:
    """Give the application what its routes need."""
    app.state.server = server
    app.state.view = GraphQLView(server, app.state.access, app.state.rates)
    app.state.health = Health(server)


def application(
    settings: Settings, telemetry: Telemetry, lifespan: Lifespan[Starlette] | None = None
) -> Starlette:
    """Return the routes and what stands before them; they need what ``bind_server`` gives."""
    access, rates = Access(settings.token), Rates()
    app = Starlette(
        routes=[
            *[Route(path, partial(explorer.page, settings=settings)) for path in explorer.ROUTES],
            Route("/graphql", _GraphQL(), middleware=[Middleware(Compression)]),
            WebSocketRoute("/graphql", _GraphQL()),
            Route(sign_in.PATH, _sign_in, methods=["GET", "POST"]),
            Route(sign_in.OUT_PATH, _sign_out, methods=["GET", "POST"]),
            Route("/healthz", health.ready),
            Route("/healthz/ready", health.ready),
            Route("/healthz/live", health.live),
            Route("/metrics", metrics_endpoint.metrics),
            Route("/top-texts/{sae_id}/{name}", _top_texts),
            Route("/exports/{sae_id}/{name}", _export),
            Mount("/static", BundledFiles(graphiql.STATIC_DIR)),
        ],
        middleware=[
            Middleware(PathPrefix, settings.root_path),
            Middleware(RequestTelemetryMiddleware, telemetry=telemetry),
            *_cross_origin(settings),
            Middleware(Guard, settings, access, rates),
        ],
        exception_handlers={404: partial(explorer.nowhere, settings=settings)},
        lifespan=lifespan,
    )
    app.state.access, app.state.rates = access, rates
    return app


def _cross_origin(settings: Settings) -> list[Middleware]:
    """Return the CORS middleware, if other origins are allowed."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(normalize_allowed_origins(settings.allowed_origins)),
            allow_methods=["GET", "POST"],
            # What clients send grows: traces, clients' names, Last-Event-ID. The origin decides.
            allow_headers=["*"],
            # Browsers ask so before a page of the internet may speak to an address of a local network.
            allow_private_network="*" not in settings.allowed_origins,
            expose_headers=["X-Request-Id"],
            max_age=600,
        )
    ]


@asynccontextmanager
async def running(settings: Settings, telemetry: Telemetry) -> AsyncIterator[AppContext]:
    """Give the server's parts, working, and end them when the block ends.

    The caller owns the artifact directory, and has migrated the database.
    """
    database = Database(settings.database_path)
    await startup.reconcile(database, settings)
    background = _Background()
    executor = LocalExecutor(
        settings,
        lambda told: background.run(_keep(database, told)),
        lambda: background.run(_forget_statuses(database)),
        telemetry,
    )
    notifier, downloads = Notifier(), Downloads(executor, settings)
    handlers = job_kinds.handlers(settings)
    supervisor = Supervisor(database, executor, handlers, notifier, settings, telemetry, downloads)
    supervisor.start()
    background.run(startup.clean_up(database, settings, time.time()))
    background.run(retention.keep_removing(database, settings))
    background.run(_keep_looking(database))
    if settings.warm_up:
        background.run(_warm_up(executor))
    log.info("server started", version=__version__, artifacts=str(settings.artifact_dir.resolve()))
    try:
        readers = Readers(settings)
        yield AppContext(settings, database, executor, supervisor, notifier, readers, downloads, telemetry)
    finally:
        await supervisor.close()
        await database.stop_writing()
        await background.close()
        await database.close()
        await asyncio.to_thread(telemetry.tracer.close, LAST_SPANS_SECONDS)
        log.info("server stopped")


class _Background:
    """Tasks that run in the background until the server stops."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _keep(database: Database, told: LanguageModelChanged | LanguageModelFound) -> None:
    if isinstance(told, LanguageModelFound):
        await language_models.keep_found(database, told)
    else:
        await language_models.set_status(database, told)


async def _forget_statuses(database: Database) -> None:
    async with database.write() as session:
        await language_models.set_all_unloaded(session)


async def _keep_looking(database: Database) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await database.look()
        except OSError:
            log.exception("database could not be looked at")


async def _warm_up(executor: LocalExecutor) -> None:
    await asyncio.sleep(WARM_UP_DELAY_SECONDS)
    await executor.warm_up()


class _GraphQL:
    """The GraphQL view, which is made in the lifespan, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.view(scope, receive, send)


async def _sign_in(request: Request) -> Response:
    return await sign_in.sign_in(request, request.app.state.access, request.app.state.rates)


async def _sign_out(request: Request) -> Response:
    return sign_in.sign_out(request, request.app.state.access)


_TOP_TEXTS_NAME = re.compile(r"[a-z]+_[0-9A-Z]{26}\.json")


async def _top_texts(request: Request) -> Response:
    """Hand out a top-texts file of an index or a request."""
    found = await _sae_of(request)
    name = request.path_params["name"]
    if found is not None and _TOP_TEXTS_NAME.fullmatch(name):
        path = artifacts.sae_directory(request.app.state.server.settings, found) / "top_texts" / name
        if await asyncio.to_thread(path.is_file):
            return FileResponse(path, media_type="application/json", filename=name)
    return _no_such_file()


async def _export(request: Request) -> Response:
    """Hand out an SAE in the format of another library."""
    sae, name = await _sae_of(request), request.path_params["name"]
    if sae is None:
        return _no_such_file()
    for export in sae.exports or []:
        path = artifacts.export_path(request.app.state.server.settings, sae, export["format"])
        if path.name == name and await asyncio.to_thread(path.is_file):
            return FileResponse(path, media_type="application/zip", filename=f"{sae.id}-{name}")
    return _no_such_file()


async def _sae_of(request: Request) -> Sae | None:
    server: AppContext = request.app.state.server
    return await lookup.find(server.database, Sae, request.path_params["sae_id"])


def _no_such_file() -> Response:
    return PlainTextResponse("There is no such file.", status_code=404)
