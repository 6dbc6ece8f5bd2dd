"""The console script: serve, demo, export-schema, migrate."""

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from gql_server import __version__
from gql_server.api.transport.hosts import is_loopback
from gql_server.server import shutdown
from gql_server.settings import Settings
from gql_server.telemetry import logs

STOPPING_SECONDS = 15
"""Beside the tasks' time to stop, what all the rest may take."""


def main() -> None:
    """Run the command that the arguments name."""
    parser = _parser()
    options = parser.parse_args()
    if options.command == "export-schema":
        _export_schema()
        return
    try:
        settings = _settings(options)
    except ValidationError as error:
        parser.error(_sentence(error))
    if options.command != "migrate" and not _may_listen(settings):
        parser.error(
            f"{settings.host} is no loopback address: set GQL_SERVER_TOKEN, which clients must bring, or "
            "GQL_SERVER_ALLOW_WITHOUT_TOKEN=true to let everybody in who reaches it."
        )
    sys.exit({"serve": _serve, "demo": _demo, "migrate": _migrate}[options.command](settings, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gql-server", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("serve", "serve the API"),
        ("demo", "start a server and give a tour of it through the API"),
        ("migrate", "bring the database up to date"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("--artifacts", type=Path, metavar="DIR", help="artifact directory")
        if name != "migrate":
            command.add_argument("--host", help="address to listen on; beyond loopback with a token only")
            command.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
        if name == "demo":
            command.add_argument("--exit", action="store_true", help="stop the server when the tour is over")
    commands.add_parser("export-schema", help="print the API's schema")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    given = {"artifact_dir": options.artifacts}
    given |= {name: getattr(options, name, None) for name in ("host", "port")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _sentence(error: ValidationError) -> str:
    problems = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
    return "settings: " + "; ".join(problems)


def _forget_token() -> None:
    """Take the token out of the environment, which workers and what they call inherit."""
    for name in [name for name in os.environ if name.lower() == "gql_server_token"]:
        del os.environ[name]


def _may_listen(settings: Settings) -> bool:
    return settings.token is not None or settings.allow_without_token or is_loopback(settings.host)


def _serve(settings: Settings, _options: argparse.Namespace) -> int:
    from gql_server.database.migrate import DatabaseTooNew, migrate
    from gql_server.server.artifact_lock import AlreadyOwned, artifact_lock
    from gql_server.server.run import serve

    shutdown.end_in_time(settings.cancel_grace_seconds + STOPPING_SECONDS)
    logs.configure(settings.log_format, settings.log_level)
    _forget_token()
    try:
        with artifact_lock(settings.artifact_dir):
            migrate(settings.database_path)
            return 0 if serve(settings) else 1
    except (AlreadyOwned, DatabaseTooNew) as error:
        print(f"gql-server: {error}", file=sys.stderr)
    except OSError as error:
        print(f"gql-server: {error}", file=sys.stderr)
    return 1


def _demo(settings: Settings, options: argparse.Namespace) -> int:
    from gql_server.tour.launch import demo

    return demo(settings, exit_when_done=options.exit)


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    import migrations
    from gql_server.database.migrate import DatabaseTooNew, migrate
    from gql_server.server.artifact_lock import AlreadyOwned, artifact_lock

    logs.configure(settings.log_format, settings.log_level)
    try:
        with artifact_lock(settings.artifact_dir):
            migrate(settings.database_path)
    except (AlreadyOwned, DatabaseTooNew) as error:
        print(f"gql-server: {error}", file=sys.stderr)
        return 1
    print(f"{settings.database_path} is at revision {migrations.HEAD}.")
    return 0


def _export_schema() -> None:
    from gql_server.api.schema import export

    print(export(), end="")


if __name__ == "__main__":
    main()
