"""One architecture of each family through every step; ``make architectures`` takes all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.architectures.runner import run_one

FAMILIES = {
    "llama": "attention with rotary positions",
    "gpt2": "learned positions, layers that compute as convolutions",
    "gpt_neox": "attention and MLP side by side",
    "opt": "no module for the MLP",
    "bloom": "ALiBi",
    "mpt": "a context length of its own name",
    "phi": "partial rotary positions, biases everywhere",
    "gemma2": "norms after attention and MLP, bounded logits",
    "mixtral": "a mixture of experts",
    "deepseek_v3": "attention through a narrow layer, shared experts",
    "olmo": "norms without parameters",
    "mamba": "a state space, no attention",
    "jamba": "state spaces and attention",
    "lfm2": "short convolutions and attention",
    "qwen3_next": "linear attention and attention",
    "openai-gpt": "no cache",
    "bert": "an encoder's layers as a decoder",
}
"""Why each is here."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: more of them only wait for each other on models this small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_step_gives_what_bare_transformers_and_numpy_give(model_type: str, tmp_path: Path) -> None:
    outcome = run_one(model_type, tmp_path)
    assert outcome.failures == {}, outcome.trace
