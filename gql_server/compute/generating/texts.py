"""The top-texts file of a generation: which of its texts each reported neuron fires on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gql_server.artifacts.files import atomic_write
from gql_server.compute.generating.output import Output


def write_generation_texts(
    path: str, sae_id: str, prompts: Sequence[str], outputs: Sequence[Output], top_neurons: int
) -> None:
    """Write the file, whole: every neuron that an output reports, with its texts, strongest first."""
    reported = sorted({entry.neuron_index for output in outputs for entry in output.top_neurons(top_neurons)})
    content = {
        "sae_id": sae_id,
        "prompts": list(prompts),
        "neurons": [{"neuron": neuron, "texts": _texts(neuron, outputs)} for neuron in reported],
    }
    atomic_write(Path(path), json.dumps(content, ensure_ascii=False, indent=2).encode())


def _texts(neuron: int, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    texts = [_text(neuron, output) for output in outputs]
    return sorted((text for text in texts if text["score"] > 0), key=lambda text: -float(text["score"]))


def _text(neuron: int, output: Output) -> dict[str, Any]:
    assert output.peaks is not None
    place = int(output.peaks.places[neuron])
    return {
        "text": output.encoded.prompt + output.text,
        "score": float(output.peaks.values[neuron]),
        "token": output.token_text(place),
        "token_index": place,
        "variant": output.variant,
    }
