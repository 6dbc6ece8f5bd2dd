"""IDs made by the server: a kind, an underscore and a ULID; a neuron's is its SAE's ULID and an index."""

import re

from ulid import ULID

LANGUAGE_MODEL = "lm"
ACTIVATION_RUN = "run"
SAE = "sae"
NEURON = "neuron"
NEURON_INDEX = "index"
CONCEPT = "concept"
CONCEPT_CONFIG = "config"
DATASET = "dataset"
EVALUATION = "evaluation"
JOB = "job"
REQUEST = "request"

_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_NODE_ID = re.compile(f"([a-z]+)_({_ULID})")
_NEURON_ID = re.compile(f"{NEURON}_({_ULID})_(0|[1-9][0-9]{{0,8}})")


def new(kind: str) -> str:
    """Return a new ID of a kind, sorting after every earlier one of that kind by its time in milliseconds."""
    return f"{kind}_{ULID()}"


def kind_of(id: str) -> str | None:
    """Return the kind that a well-formed ID names, or None where it is malformed."""
    if _NEURON_ID.fullmatch(id):
        return NEURON
    match = _NODE_ID.fullmatch(id)
    return match.group(1) if match and match.group(1) != NEURON else None


def neuron_id(sae_id: str, index: int) -> str:
    """Return the ID of a neuron of an SAE."""
    return f"{NEURON}_{sae_id.removeprefix(SAE + '_')}_{index}"


def parse_neuron_id(id: str) -> tuple[str, int] | None:
    """Return the SAE's ID and the neuron's index, or None where the ID is malformed."""
    match = _NEURON_ID.fullmatch(id)
    return (f"{SAE}_{match.group(1)}", int(match.group(2))) if match else None
