"""The neurons that fire on a prompt, against a bare forward pass of the same prompt.

``python -m benchmarks.looking``: SmolLM2-135M-Instruct, block 9, 121 tokens, from the task to its result.
Beside it the least that the work can take (the pass up to the block and encoding), and mi_crow's own hook.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import rows
from benchmarks.alternating import alternate, milliseconds
from benchmarks.captures import Silent
from benchmarks.rows import Row, Spread, at_most
from benchmarks.smollm2 import N_LATENTS, Subject, block_9, random_sae
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.protocol.tasks import FindTopNeurons

from mi_crow.mechanistic.sae.sae import Sae

GOAL = 1.15
FIRST = 10
CLASSES = ("BatchTopKSae", "TopKSae")
PRECISION = "float32"


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=121)
    parser.add_argument("--neurons", type=int, default=N_LATENTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        subject = block_9(Path(directory))
        table = [
            row
            for name in CLASSES
            for row in measure(subject, name, given.tokens, given.neurons, given.rounds)
        ]
    rows.hand_over(table, given)


def measure(subject: Subject, name: str, n_tokens: int, n_latents: int, rounds: int) -> list[Row]:
    """Time one class of SAE."""
    (prompt,) = subject.prompts((n_tokens,))
    sae = random_sae(name, subject.activations(prompt), n_latents)
    sides = {
        "bare": bare(subject, prompt),
        "ours": find(subject, name, sae, prompt, per_token=False),
        "token by token": find(subject, name, sae, prompt, per_token=True),
        "least": lambda: sae.encode(subject.activations(prompt)),
        "mi_crow": stock(subject, sae, prompt),
    }
    times = {side: milliseconds(measured) for side, measured in alternate(sides, rounds).items()}
    what = f"top neurons of {n_tokens} tokens, {name} of {n_latents:,} neurons"
    forward, least = "bare forward pass, whole model", "pass to the block and encode"
    each = f"{what}, token by token too"
    return [
        at_most(what, times["ours"], forward, times["bare"], GOAL, "ms", PRECISION),
        at_most(each, times["token by token"], forward, times["bare"], GOAL, "ms", PRECISION),
        at_most(what, times["ours"], least, times["least"], GOAL, "ms", PRECISION),
        beside(what, times["ours"], times["mi_crow"]),
    ]


def beside(what: str, ours: Spread, theirs: Spread) -> Row:
    """Compare with mi_crow, without a goal."""
    return Row(
        what=what,
        ours=ours.show("ms", ",.1f"),
        against="mi_crow's hook and inference",
        theirs=theirs.show("ms", ",.1f"),
        measured=f"{ours.median / theirs.median:.2f} ×",
        precision=PRECISION,
    )


def find(subject: Subject, name: str, sae: Sae, prompt: str, *, per_token: bool) -> Callable[[], object]:
    """Return the task, done."""
    task = FindTopNeurons(subject.source, subject.sae(name, sae), [prompt], FIRST, per_token)
    return lambda: find_top_neurons(task, Silent(), subject.lm, sae)


def bare(subject: Subject, prompt: str) -> Callable[[], object]:
    """Return a forward pass of the whole model, with tokens at hand."""
    lm = subject.lm
    ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]])
    mask = torch.ones_like(ids)

    def run() -> object:
        with torch.inference_mode():
            return lm.model(input_ids=ids, attention_mask=mask, use_cache=False)

    return run


def stock(subject: Subject, sae: Sae, prompt: str) -> Callable[[], object]:
    """Return what mi_crow offers for it: its SAE as a hook, whose neurons' values are read afterwards."""
    lm = subject.lm

    def run() -> object:
        lm.layers.register_hook(subject.layer, sae)
        try:
            lm.inference.execute_inference([prompt])
            return sae.tensor_metadata["neurons"][0].max(dim=0).values.topk(FIRST)
        finally:
            lm.layers.unregister_hook(sae)

    return run


if __name__ == "__main__":
    main()
