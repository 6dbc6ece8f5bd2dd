"""The metadata.json beside an SAE's checkpoint, after it was written."""

import json
from pathlib import Path

from gql_server.compute.messages.results import EvaluationResult
from gql_server.files import write_whole


def note_evaluation(directory: Path, result: EvaluationResult) -> bool:
    """Put an evaluation into the metadata.json of an SAE's directory in the place of the one before.

    Returns False where there is no readable one.
    """
    path = directory / "metadata.json"
    try:
        metadata = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(metadata, dict):
        return False
    metadata["evaluation"] = result.plain()
    write_whole(path, json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False).encode())
    return True
