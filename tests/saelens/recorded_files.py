"""The directories that sae-lens has made and that are recorded here, for tests that need no torch."""

import shutil
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
FILES = ("cfg.json", "sae_weights.safetensors")


def made(name: str, directory: Path) -> Path:
    """Copy a directory that sae-lens has made, without what was recorded of it; returns the copy."""
    directory.mkdir(parents=True)
    for file in FILES:
        shutil.copy(RECORDED / "made" / name / file, directory / file)
    return directory
