"""Records what sae-lens' transcoders compute: run by its environment's Python.

Its SAEs are recorded in tests/saelens, where exports are held against them, too.
"""

from typing import Any

from sae_lens import (
    SAE,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)

from tests.published.recording import RECORDED, record, rows, skip
from tests.published.weights import N_INPUTS, N_LATENTS, tensor, weights

SIZES: dict[str, Any] = {
    "d_in": N_INPUTS,
    "d_out": N_INPUTS,
    "d_sae": N_LATENTS,
    "apply_b_dec_to_input": False,
}
PLACES = {"hook_name": "blocks.0.hook_attn_out", "hook_name_out": "blocks.0.hook_mlp_out"}


def main() -> None:
    """Write all anew."""
    for name, transcoder in {
        "transcoder": Transcoder(TranscoderConfig(**SIZES)),
        "transcoder_with_skip": SkipTranscoder(SkipTranscoderConfig(**SIZES)),
        "transcoder_with_thresholds": JumpReLUTranscoder(JumpReLUTranscoderConfig(**SIZES)),
    }.items():
        w = weights(2)
        state = {
            "W_enc": tensor(w.encoder.T),
            "b_enc": tensor(w.encoder_bias),
            "W_dec": tensor(w.decoder),
            "b_dec": tensor(w.decoder_bias),
            "W_skip": skip(),
            "threshold": tensor(w.threshold),
        }
        state["threshold"][3::3] *= -1
        transcoder.load_state_dict({key: state[key] for key in transcoder.state_dict()})
        for key, place in PLACES.items():
            transcoder.cfg.metadata[key] = place
        directory = RECORDED / "sae_lens" / name
        transcoder.save_model(directory)
        loaded = SAE.load_from_disk(directory)
        record(directory, loaded.encode(rows()), loaded(rows()))


if __name__ == "__main__":
    main()
