"""What a peer's training is given and hands back; it needs nothing but NumPy, torch and safetensors."""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # By now, since the first optimizer imports it, for seconds of nobody's training.
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

REPORT = "training.json"


@dataclass(frozen=True)
class Order:
    """What to train on, and where the result goes."""

    batches: NDArray[np.float32]
    """[n_steps, batch_size, n_inputs]: one step is taken on each, in this order."""
    n_latents: int
    k: int
    seed: int
    options: dict[str, Any]
    """What is to be other than the package has it, by the package's own names."""
    directory: Path

    @property
    def n_steps(self) -> int:
        return self.batches.shape[0]

    @property
    def batch_size(self) -> int:
        return self.batches.shape[1]

    @property
    def n_inputs(self) -> int:
        return self.batches.shape[2]

    def tensors(self) -> Iterator[Tensor]:
        """Give the batches [batch_size, n_inputs], read from the file one after the other."""
        for batch in self.batches:
            yield torch.from_numpy(np.array(batch))


def read_order() -> Order:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=Path, required=True)
    parser.add_argument("--latents", type=int, required=True)
    parser.add_argument("--k", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="fewer than there are batches")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    batches = np.load(given.batches, mmap_mode="r")[: given.steps]
    return Order(batches, given.latents, given.k, given.seed, given.options, given.directory)


class Stopwatch:
    """How long the training itself took: without imports, reading the order and writing the result."""

    seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began


def report(order: Order, stopwatch: Stopwatch, package: str, lr: float, **settings: Any) -> None:
    """Write down what was set, beside the weights: all that is not the package's own default."""
    said = {
        "package": package,
        "version": version(package),
        "seconds": stopwatch.seconds,
        "peak_megabytes": peak_megabytes(),
        "settings": {"lr": lr, **settings},
    }
    (order.directory / REPORT).write_text(json.dumps(said))


def peak_megabytes() -> float:
    """Return the most memory that this process has held, in 10**6 bytes.

    Linux counts in ru_maxrss what the parent held when it started this process, so it is asked otherwise.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def save_topk(order: Order, *, encoder: Tensor, encoder_bias: Tensor, decoder: Tensor, bias: Tensor) -> None:
    """Write SAELens' format of z = topk(relu(W_e (x - b) + b_e)), x_hat = z W_d + b.

    Args:
        order: Says where to.
        encoder: W_e [n_latents, n_inputs].
        encoder_bias: b_e [n_latents].
        decoder: W_d [n_latents, n_inputs].
        bias: b [n_inputs].
    """
    weights = {"W_enc": encoder.T, "b_enc": encoder_bias, "W_dec": decoder, "b_dec": bias}
    plain = {name: weight.detach().float().cpu().contiguous() for name, weight in weights.items()}
    save_file(plain, order.directory / "sae_weights.safetensors")
    cfg = {
        "architecture": "topk",
        "d_in": order.n_inputs,
        "d_sae": order.n_latents,
        "k": order.k,
        "rescale_acts_by_decoder_norm": False,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12"},
    }
    (order.directory / "cfg.json").write_text(json.dumps(cfg))
