"""eai-sparsify's SparseCoder, by its own Trainer, which is shown a stand-in for a language model."""

from types import SimpleNamespace
from typing import Any

import torch
from sparsify import SparseCoderConfig, TrainConfig, Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.peers.handover import Order, Stopwatch, read_order, report, save_topk


def main() -> None:
    order = read_order()
    config = TrainConfig(
        SparseCoderConfig(num_latents=order.n_latents, k=order.k),
        batch_size=order.batch_size,
        hookpoints=["layer"],
        init_seeds=[order.seed],
        log_to_wandb=False,
        save_dir=str(order.directory),
        run_name="run",
        save_every=2 * order.n_steps,
        **order.options,
    )
    trainer = Trainer(config, Rows(order), StandIn(order))
    stopwatch = Stopwatch()
    with stopwatch.running():
        trainer.fit()
    # What fit() has saved last is the average of the weights that its schedule-free optimizer keeps.
    coder = trainer.saes["layer"].load_from_disk(order.directory / "run" / "layer")
    save_topk(
        order,
        encoder=coder.encoder.weight,
        encoder_bias=coder.encoder.bias,
        decoder=coder.W_dec,
        bias=coder.b_dec,
    )
    report(
        order,
        stopwatch,
        "eai-sparsify",
        config.lr or 5e-3 / (order.n_latents / 2**14) ** 0.5,
        optimizer=config.optimizer,
        auxk_alpha=config.auxk_alpha,
    )


class Rows(Dataset[dict[str, Tensor]]):
    """Every row's number, as a text of one token."""

    def __init__(self, order: Order) -> None:
        self._n_rows = order.n_steps * order.batch_size

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([row])}


class StandIn(nn.Module):
    """A model whose one layer gives, for the numbers of a batch's rows, that batch."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(num_hidden_layers=1)
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}
        self._rows = order.batches.reshape(-1, order.n_inputs)

    @property
    def base_model(self) -> "StandIn":
        return self

    def forward(self, input_ids: Tensor) -> Any:
        first, count = int(input_ids[0, 0]), len(input_ids)
        rows = torch.from_numpy(self._rows[first : first + count].copy())
        return self.layer(rows[:, None, :])


if __name__ == "__main__":
    main()
