"""How an SAE may normalize each token's activations before it encodes them, and restore what it decodes.

With x the activations of a token, d of them, and f the rest of the SAE, x_hat = scale f((x - mean) / divisor)
+ mean, by the token's own numbers. So nothing of it can be folded into weights.
"""

from typing import Literal, TypeGuard, get_args

InputNormalization = Literal["NONE", "LAYER_NORM", "RMS_NORM"]
"""
LAYER_NORM: mean and standard deviation s, with d - 1 in its denominator; divided by s + 1e-5, times s.
OpenAI's sparse_autoencoder ("normalize"), SAELens' ``layer_norm``.
RMS_NORM: divided by, and times, the root of the mean square |x| / sqrt(d). SAELens'
``constant_norm_rescale``, llamascopium's ``token-wise``.
"""
INPUT_NORMALIZATIONS: tuple[InputNormalization, ...] = get_args(InputNormalization)

IN_SAE_LENS: dict[InputNormalization, str] = {
    "NONE": "none",
    "LAYER_NORM": "layer_norm",
    "RMS_NORM": "constant_norm_rescale",
}
"""What cfg.json calls them (normalize_activations)."""


def is_known(value: object) -> TypeGuard[InputNormalization]:
    """Whether a value of a file's is one of these."""
    return isinstance(value, str) and value in INPUT_NORMALIZATIONS
