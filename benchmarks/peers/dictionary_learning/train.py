"""dictionary-learning's AutoEncoderTopK, by its own trainSAE and TopKTrainer."""

import json
import sys
from types import ModuleType

import torch

from benchmarks.peers.handover import Order, Stopwatch, read_order, report, save_topk

# The package imports these two for capturing and for logging; neither is used here.
for name in ("nnsight", "wandb"):
    sys.modules[name] = ModuleType(name)
sys.modules["nnsight"].LanguageModel = object  # type: ignore[attr-defined]

from dictionary_learning.trainers.top_k import TopKTrainer  # noqa: E402
from dictionary_learning.training import trainSAE  # noqa: E402

WARMUP_SHARE = 0.05
"""Its default, 1,000 steps, is refused for a training of fewer."""
DECAY_FROM_SHARE = 0.8
"""As in the package's own demonstration."""


def main() -> None:
    order = read_order()
    warmup_steps, decay_start = int(WARMUP_SHARE * order.n_steps), int(DECAY_FROM_SHARE * order.n_steps)
    config = {
        "trainer": TopKTrainer,
        "steps": order.n_steps,
        "activation_dim": order.n_inputs,
        "dict_size": order.n_latents,
        "k": order.k,
        "layer": 9,
        "lm_name": "SmolLM2-135M-Instruct",
        "warmup_steps": warmup_steps,
        "decay_start": decay_start,
        "seed": order.seed,
        "device": "cpu",
        **order.options,
    }
    stopwatch = Stopwatch()
    with stopwatch.running():
        trainSAE(
            Batches(order),
            [config],
            steps=order.n_steps,
            save_dir=str(order.directory),
            normalize_activations=True,
            device="cpu",
        )
    weights = torch.load(order.directory / "trainer_0" / "ae.pt", weights_only=True)
    save_topk(
        order,
        encoder=weights["encoder.weight"],
        encoder_bias=weights["encoder.bias"],
        decoder=weights["decoder.weight"].T,
        bias=weights["b_dec"],
    )
    report(
        order,
        stopwatch,
        "dictionary-learning",
        json.loads((order.directory / "trainer_0" / "config.json").read_text())["trainer"]["lr"],
        warmup_steps=warmup_steps,
        decay_start=decay_start,
        normalize_activations=True,
    )


class Batches:
    """The batches anew for each loop: trainSAE loops once to find the scale, once to train."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def __iter__(self):  # type: ignore[no-untyped-def]
        return self._order.tensors()


if __name__ == "__main__":
    main()
