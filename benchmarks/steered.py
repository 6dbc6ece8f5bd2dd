"""Steered generation against transformers' own generate.

``python -m benchmarks.steered``: SmolLM2-135M-Instruct, an SAE on block 9, greedy, one prompt and four, all
of them to the last token: neither side may end before. Ours is the task as a client asks for it, neurons
reported at every token and each token sent as it is made.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import rows
from benchmarks.alternating import alternate, milliseconds
from benchmarks.captures import Silent
from benchmarks.rows import Row, at_most
from benchmarks.smollm2 import N_LATENTS, Subject, block_9, random_sae
from gql_server.compute.generating.generation import generate
from gql_server.protocol.events import Event, TokenGenerated
from gql_server.protocol.sources import Edit
from gql_server.protocol.tasks import Generate

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

GOAL = 1.15
PRECISION = "float32"
CLASS = "BatchTopKSae"
PROMPT_TOKENS = (24, 31, 18, 27)
TOP_NEURONS = 5
Mode = Literal["ERROR_PRESERVING", "RECONSTRUCTION"]


class Counting(Silent):
    """A task context that counts the tokens sent."""

    def __init__(self) -> None:
        self.n_tokens = 0

    def emit(self, event: Event) -> None:
        """Count it."""
        self.n_tokens += isinstance(event, TokenGenerated)


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--neurons", type=int, default=N_LATENTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        subject = block_9(Path(directory))
        table = [
            row
            for lengths in (PROMPT_TOKENS[:1], PROMPT_TOKENS)
            for row in measure(subject, lengths, given.new_tokens, given.neurons, given.rounds)
        ]
    rows.hand_over(table, given)


def measure(subject: Subject, lengths: tuple[int, ...], n_new: int, n_latents: int, rounds: int) -> list[Row]:
    """Time both modes on prompts of some lengths in tokens."""
    asked = subject.prompts(lengths)
    sae = random_sae(CLASS, subject.activations(asked[0]), n_latents)

    def steered(mode: Mode) -> Callable[[], object]:
        task = make_task(subject, sae, asked, n_new, mode)
        return lambda: run(task, subject.lm, sae)

    modes: tuple[Mode, ...] = ("ERROR_PRESERVING", "RECONSTRUCTION")
    sides: dict[str, Callable[[], object]] = {"bare": bare(subject.lm, asked, n_new)}
    sides |= {mode: steered(mode) for mode in modes}
    with endless(subject.lm):
        times = {side: milliseconds(measured) for side, measured in alternate(sides, rounds).items()}
    prompts = "1 prompt" if len(lengths) == 1 else f"{len(lengths)} prompts"
    what = f"{n_new} tokens, {prompts}, {CLASS} of {n_latents:,} neurons"
    return [
        at_most(
            f"steered generation of {what}, {mode}",
            times[mode],
            "transformers' generate",
            times["bare"],
            GOAL,
            "ms",
            PRECISION,
            form=",.0f",
        )
        for mode in modes
    ]


def make_task(subject: Subject, sae: Sae, asked: Sequence[str], n_new: int, mode: Mode) -> Generate:
    """Ask for a greedy generation with one edit, and otherwise for what the API's defaults are."""
    return Generate(
        language_model=subject.source,
        sae=subject.sae(CLASS, sae),
        prompts=list(asked),
        chats=None,
        max_new_tokens=n_new,
        temperature=0.0,
        top_p=None,
        top_k=None,
        repetition_penalty=None,
        stop=[],
        seed=0,
        edits=[Edit(3, 1.0, 2.0)],
        mode=mode,
        compare_to_baseline=False,
        top_log_probabilities=0,
        top_neurons=TOP_NEURONS,
        top_texts_path=None,
    )


def run(task: Generate, lm: LanguageModel, sae: Sae) -> None:
    """Do the task; ValueError where not every token was made and sent."""
    context = Counting()
    generate(task, context, lm, sae)
    if context.n_tokens != len(task.prompts) * task.max_new_tokens:
        raise ValueError(f"{context.n_tokens} tokens were sent")


def bare(lm: LanguageModel, asked: Sequence[str], n_new: int) -> Callable[[], object]:
    """Return transformers' own greedy generation of these prompts: one batch, padded left, with a cache."""
    ids = [lm.tokenizer(prompt)["input_ids"] for prompt in asked]
    width = max(map(len, ids))
    padded = torch.tensor([[0] * (width - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])

    def run() -> None:
        with torch.inference_mode():
            output = lm.model.generate(
                padded, attention_mask=mask, max_new_tokens=n_new, do_sample=False, pad_token_id=0
            )
        if output.shape[1] != width + n_new:
            raise ValueError(f"{output.shape[1] - width} tokens were generated")

    return run


@contextmanager
def endless(lm: LanguageModel) -> Iterator[None]:
    """Keep the model from ending a text, whoever asks it."""
    configured = lm.model.generation_config.eos_token_id
    ends = [*(configured if isinstance(configured, list) else [configured]), lm.tokenizer.eos_token_id]

    def never(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output[..., ends] = -1e4

    handle = lm.model.get_output_embeddings().register_forward_hook(never)
    try:
        yield
    finally:
        handle.remove()


if __name__ == "__main__":
    main()
