"""SAELens' TopKTrainingSAE, by its own SAETrainer."""

from itertools import chain
from typing import Any

from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

from benchmarks.peers.handover import Stopwatch, read_order, report


def main() -> None:
    order = read_order()
    sae: Any = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=order.n_inputs,
            d_sae=order.n_latents,
            k=order.k,
            normalize_activations="expected_average_only_in",
        )
    )
    options = {"lr": SAETrainerConfig.lr, **order.options}
    config = SAETrainerConfig(
        total_training_samples=order.n_steps * order.batch_size,
        train_batch_size_samples=order.batch_size,
        lr_end=options["lr"] / 10,
        lr_decay_steps=order.n_steps // 5,
        n_batches_for_norm_estimate=order.n_steps,
        logger=LoggingConfig(log_to_wandb=False),
        **options,
    )
    # The first pass over the batches is the trainer's, to find their scale.
    trainer: Any = SAETrainer(config, sae, data_provider=chain(order.tensors(), order.tensors()))
    stopwatch = Stopwatch()
    with stopwatch.running():
        trainer.fit()
    sae.save_inference_model(order.directory)
    report(
        order,
        stopwatch,
        "sae-lens",
        config.lr,
        lr_decay_steps=config.lr_decay_steps,
        dead_feature_window=config.dead_feature_window,
        normalize_activations="expected_average_only_in",
    )


if __name__ == "__main__":
    main()
