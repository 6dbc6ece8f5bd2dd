"""The metadata.json beside an SAE's checkpoint, after it was written."""

import json
from pathlib import Path
from typing import Any

from gql_server.artifacts.files import atomic_write
from gql_server.protocol.results import EvaluationResult

METADATA_FILE = "metadata.json"


def read_metadata(directory: Path) -> dict[str, Any] | None:
    """Return the metadata.json of an SAE's directory; None where there is no readable one."""
    try:
        metadata = json.loads((directory / METADATA_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return metadata if isinstance(metadata, dict) else None


def note_evaluation(directory: Path, result: EvaluationResult) -> bool:
    """Put an evaluation into the metadata.json of an SAE's directory in the place of the one before.

    Returns False where there is no readable one.
    """
    metadata = read_metadata(directory)
    if metadata is None:
        return False
    metadata["evaluation"] = result.to_json()
    atomic_write(
        directory / METADATA_FILE,
        json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False).encode(),
    )
    return True
