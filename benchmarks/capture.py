"""How fast a capture is, beside a bare forward pass to its layer and beside mi_crow's own.

``python -m benchmarks.capture``: SmolLM2-135M, block 9, over the Python reference. Ours is the whole task:
the model's provenance, the plan, tokenizing, passes, writing, hashes and manifest. The forward pass is that
of transformers alone, with the blocks after the layer cut off, over the same texts in the same passes,
tokenized beforehand, and nothing is kept. mi_crow's is save_activations with its mask, in the dataset's
order. All in one process, in turns.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from benchmarks import rows
from benchmarks.captures import Silent, block, capture_of, smollm2
from benchmarks.rows import Row, Spread
from gql_server.artifacts.datasets import TextDataset, built_in_python_reference, write_texts
from gql_server.artifacts.manifest import read_plan
from gql_server.compute.capturing.batch_sizes import joined, passes, tokens_per_pass
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.capturing.captured_batch import padded
from gql_server.compute.language_models.forward import model_device
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.model_files import DTYPES
from gql_server.compute.language_models.text_encoder import encoder_of, padding_id
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore

GOAL = 0.9
BLOCK = 9
"""Of thirty."""
Pass = tuple[Tensor, Tensor]
"""Token ids and mask."""


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--half-texts", type=int, default=48, help="in bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        for dtype, n_texts in (("FLOAT32", given.texts), ("BFLOAT16", given.half_texts)):
            source, place = smollm2(Path(directory), dtype), Path(directory) / dtype
            texts = built_in_python_reference()[:n_texts]
            found += compare(source, BLOCK, place, texts, given.rounds)
    rows.hand_over(found, given)


def compare(
    source: LanguageModelSource, number: int, directory: Path, texts: Sequence[str], n_rounds: int
) -> list[Row]:
    """Measure captures of a block in turns, after a first round of ours and the bare passes."""
    write_texts(directory / "texts", texts)
    language_models = LanguageModels(device="cpu")
    lm = language_models.get(source)
    task = capture_of(source, block(number), directory)
    token_count = capture_activations(task, Silent(), language_models).token_count
    forward_passes, numbers = prepared(lm, task), count()
    sides: dict[str, Callable[[], None]] = {
        "ours": lambda: capture_anew(task, next(numbers), language_models),
        "bare": lambda: pass_all(lm, number, forward_passes),
        "mi_crow": lambda: save_with_mi_crow(lm, texts, task),
    }
    sides["bare"]()
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(n_rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            speeds[name].append(token_count / (time.perf_counter() - began))
    return table(source.dtype, {name: Spread.of(measured) for name, measured in speeds.items()}, token_count)


def table(dtype: str, speeds: dict[str, Spread], token_count: int) -> list[Row]:
    what = f"capture of {token_count:,} tokens, stored"
    bare, stock = "bare forward pass to the layer, nothing stored", "mi_crow's save_activations"
    precision = f"{dtype.lower()}: model and store"
    ours = speeds["ours"]
    for_information = rows.at_least(what, ours, stock, speeds["mi_crow"], 0, "tokens/s", precision)
    return [
        rows.at_least(what, ours, bare, speeds["bare"], GOAL, "tokens/s", precision),
        msgspec.structs.replace(for_information, goal="", reached=None),
    ]


def capture_anew(task: CaptureActivations, number: int, language_models: LanguageModels) -> None:
    another = msgspec.structs.replace(task, run_id=f"run_{number}")
    capture_activations(another, Silent(), language_models)


def prepared(lm: LanguageModel, task: CaptureActivations) -> list[Pass]:
    """Return the passes that the capture makes."""
    plan = read_plan(ActivationStore(Path(task.store_dir)).run_directory(task.run_id))
    assert plan is not None
    dataset, max_tokens = TextDataset(Path(task.dataset_dir)), tokens_per_pass(model_device(lm))
    found = []
    for group in joined(plan.batches, max_tokens):
        for one in passes(plan.batches, group, max_tokens):
            texts = [dataset[row] for row in one.rows]
            found.append(padded(encoder_of(lm).encode(texts, task.max_length), padding_id(lm)))
    return found


def pass_all(lm: LanguageModel, number: int, forward_passes: Sequence[Pass]) -> None:
    with without_later_blocks(lm, number) as base, torch.inference_mode():
        for input_ids, mask in forward_passes:
            base(input_ids=input_ids, attention_mask=mask, use_cache=False)


@contextmanager
def without_later_blocks(lm: LanguageModel, number: int) -> Iterator[nn.Module]:
    """Give the model without what comes after a block: later blocks, the last norm and the head."""
    base: Any = lm.model.get_decoder()
    layers, norm = base.layers, base.norm
    base.layers, base.norm = layers[: number + 1], nn.Identity()
    try:
        yield base
    finally:
        base.layers, base.norm = layers, norm


def save_with_mi_crow(lm: LanguageModel, texts: Sequence[str], task: CaptureActivations) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lm.store = LocalStore(directory)
        lm.activations.save_activations(
            list(texts),
            task.layers,
            run_name="run",
            batch_size=task.batch_size,
            dtype=DTYPES[task.dtype],
            max_length=task.max_length,
            autocast=False,
            save_attention_mask=True,
        )


if __name__ == "__main__":
    main()
