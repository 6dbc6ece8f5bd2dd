"""Records what eai-sparsify's sparse coders compute: run by its environment's Python."""

import torch
from sparsify import SparseCoder, SparseCoderConfig

from tests.published.recording import RECORDED, K, record, rows, skip
from tests.published.weights import N_INPUTS, N_LATENTS, tensor, weights

CONFIGS = {
    "topk": SparseCoderConfig(num_latents=N_LATENTS, k=K),
    "topk_beyond_positive": SparseCoderConfig(num_latents=N_LATENTS, k=N_LATENTS - 5),
    "topk_in_bfloat16": SparseCoderConfig(num_latents=N_LATENTS, k=K),
    "groupmax_of_each": SparseCoderConfig(num_latents=N_LATENTS, k=N_LATENTS, activation="groupmax"),
    "transcoder": SparseCoderConfig(num_latents=N_LATENTS, k=K, transcode=True),
    "transcoder_with_skip": SparseCoderConfig(
        num_latents=N_LATENTS, k=K, transcode=True, skip_connection=True
    ),
}


def main() -> None:
    """Write all anew. Of weights in bfloat16 what is computed in float32 is recorded."""
    for name, config in CONFIGS.items():
        directory = RECORDED / "sparsify" / name / "layers.0.mlp"
        dtype = torch.bfloat16 if name.endswith("bfloat16") else torch.float32
        w = weights(1, subtracted=not config.transcode)
        coder = SparseCoder(N_INPUTS, config, dtype=dtype)
        state = {
            "encoder.weight": tensor(w.encoder),
            "encoder.bias": tensor(w.encoder_bias),
            "W_dec": tensor(w.decoder),
            "b_dec": tensor(w.decoder_bias),
        }
        if config.skip_connection:
            state["W_skip"] = skip()
        coder.load_state_dict(state)
        coder.save_to_disk(directory)
        loaded = SparseCoder.load_from_disk(directory).float()
        top, indices, _ = loaded.encode(rows())
        latents = torch.zeros(len(rows()), N_LATENTS).scatter(1, indices, top)
        record(directory, latents, loaded(rows()).sae_out)


if __name__ == "__main__":
    main()
