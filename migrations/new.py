"""``python -m migrations.new WORDS …`` writes the next migration; ``make migration NAME="words"`` calls it.

It compares models/ with a database that all migrations so far have made, in a temporary directory; no
artifact directory is touched.
"""

import re
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

import migrations
from gql_server.database.migrate import alembic_config, migrate

_MIGRATIONS = Path(__file__).parent


def write(name: str, directory: Path = _MIGRATIONS) -> Path:
    """Write the next revision, make it ``HEAD``, and return its file.

    Args:
        name: What it changes, in a few words: its docstring, and part of the file's name.
        directory: Where ``__init__.py``, ``env.py``, the template and ``versions`` are.
    """
    config = alembic_config()
    config.set_main_option("script_location", str(directory))
    revision = f"{int(migrations.HEAD) + 1:04}"
    with tempfile.TemporaryDirectory() as temporary:
        database = Path(temporary) / "database.sqlite3"
        migrate(database)
        engine = create_engine(f"sqlite:///{database}")
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.revision(config, name[:1].upper() + name[1:], autogenerate=True, rev_id=revision)
        engine.dispose()
    (path,) = (directory / "versions").glob(f"{revision}_*.py")
    package = directory / "__init__.py"
    package.write_text(package.read_text().replace(f'"{migrations.HEAD}"', f'"{revision}"'))
    return path


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # Alembic says there what it does.
        written = write(re.sub(r"\s+", " ", " ".join(sys.argv[1:])))
    print(written)
