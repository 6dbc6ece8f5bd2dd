"""mi_crow's TopKSae, by its own train(), on a LocalStore; in this project's environment."""

from benchmarks.peers.handover import Order, Stopwatch, read_order, report
from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae, TopKSaeTrainingConfig
from mi_crow.store.local_store import LocalStore

RUN = "run"
LAYER = "layer"


def main() -> None:
    order = read_order()
    store = stored(order)
    # Its batches come in the order in which they are stored, each epoch alike: so this is one epoch of all.
    config = TopKSaeTrainingConfig(k=order.k, epochs=1, batch_size=order.batch_size, **order.options)
    sae = TopKSae(n_latents=order.n_latents, n_inputs=order.n_inputs)
    stopwatch = Stopwatch()
    with stopwatch.running():
        sae.train(store, RUN, LAYER, config, training_run_id="training")
    sae.save("sae", path=order.directory, k=order.k)
    report(order, stopwatch, "mi-crow", config.lr, use_amp=config.use_amp)


def stored(order: Order) -> LocalStore:
    """Put each batch into the run as one stored batch, which the trainer then takes whole."""
    store = LocalStore(order.directory / "store")
    for index, batch in enumerate(order.tensors()):
        store.put_detector_metadata(RUN, index, {}, {LAYER: {"activations": batch}})
    return store


if __name__ == "__main__":
    main()
