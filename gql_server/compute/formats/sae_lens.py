"""SAEs in SAELens' format: reading the weights of a directory that sae-lens has saved, and writing one.

The formulas are those of sae-lens 6: ``StandardSAE``, ``TopKSAE`` and ``JumpReLUSAE``. With
``rescale_acts_by_decoder_norm`` a TopKSAE multiplies its pre-activations by the lengths of the decoder's
rows, and divides its latents by them again before it decodes: that is the same as other weights, which are
used here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gql_server.compute.saes.weights import SaeWeights, check_finite
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_lens_config import WEIGHTS_FILE, SaeLensConfig

SAE_LENS_VERSION = "6.54.12"
"""The version of sae-lens whose format is written; tests/saelens has recordings of that version."""
MAX_HEADER_BYTES = 1024 * 1024
SCALING_FACTOR = "scaling_factor"
"""A tensor of old files; all ones if the SAE was not scaled."""
_BITS = {"F16": 16, "BF16": 16, "F32": 32, "F64": 64}
_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def most_bytes(config: SaeLensConfig) -> int:
    """Return the most that the file of weights can have for what cfg.json says of it."""
    values = sum(_product(shape) for shape in config.tensor_shapes.values()) + config.n_latents
    return 8 * values + MAX_HEADER_BYTES


def read_weights(path: Path, config: SaeLensConfig) -> SaeWeights:
    """Read the weights that go with a cfg.json. Raises TaskError with what is wrong with them."""
    tensors = _read(path, config)
    for name, tensor in tensors.items():
        check_finite(name, tensor)
    encoder_weight, encoder_bias = tensors["W_enc"].T, tensors["b_enc"]
    decoder_weight = tensors["W_dec"]
    if config.rescales:
        norms = _lengths(decoder_weight, config.dtype)
        encoder_weight = (encoder_weight * norms[:, None]).float()
        encoder_bias = (encoder_bias * norms).float()
        decoder_weight = (decoder_weight / norms[:, None]).float()
    # Latents are positive, so that a threshold below 0 lets pass what 0 does.
    threshold = tensors["threshold"].clamp(min=0) if "threshold" in tensors else None
    return SaeWeights(
        encoder_weight=encoder_weight.contiguous(),
        encoder_bias=encoder_bias,
        decoder_weight=decoder_weight,
        decoder_bias=tensors["b_dec"],
        subtracts_bias=config.subtracts_bias,
        k=config.k,
        threshold=threshold,
    )


def _lengths(decoder_weight: Tensor, dtype: str) -> Tensor:
    """Return the lengths of the decoder's rows in float64 [n_latents], all of them fit to divide by."""
    norms: Tensor = torch.linalg.vector_norm(decoder_weight, dim=1, dtype=torch.float64)
    if bool((norms == 0).any()):
        raise TaskError(
            "Rows of W_dec are zero, by whose length rescale_acts_by_decoder_norm divides: SAELens itself"
            " gives NaN there."
        )
    theirs = decoder_weight.to(_type(dtype)).norm(dim=1)
    if not bool((torch.isfinite(theirs) & (theirs > 0)).all()):
        raise TaskError(
            f"Rows of W_dec are so short or so long that SAELens, which computes their lengths in {dtype} for"
            " rescale_acts_by_decoder_norm, gets 0 or infinity: what it gives there is no number. Scale them"
            " before the SAE is saved."
        )
    return norms


def _read(path: Path, config: SaeLensConfig) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            _check_names(names, config)
            if SCALING_FACTOR in names:
                _check_scaling(file, config)
            for name, shape in config.tensor_shapes.items():
                _check_header(name, file.get_slice(name), shape, config.dtype)
            return {name: _exactly_float32(name, file.get_tensor(name)) for name in config.tensor_shapes}
    except SafetensorError as error:
        raise TaskError(
            f"{WEIGHTS_FILE} is damaged, or no safetensors file: its header does not describe tensors of"
            " types that safetensors knows, which fill the file. Save it with SAELens again."
        ) from error


def _check_names(names: set[str], config: SaeLensConfig) -> None:
    wanted = set(config.tensor_shapes)
    if missing := sorted(wanted - names):
        raise TaskError(f"{WEIGHTS_FILE} lacks {', '.join(missing)}, which {config.architecture} SAEs have.")
    if strange := sorted(names - wanted - {SCALING_FACTOR}):
        shown = ", ".join(ascii(name)[:60] for name in strange[:5])
        raise TaskError(f"{WEIGHTS_FILE} has tensors that {config.architecture} SAEs do not have: {shown}.")


def _check_scaling(file: Any, config: SaeLensConfig) -> None:
    fits = list(file.get_slice(SCALING_FACTOR).get_shape()) == [config.n_latents]
    # As sae-lens: of ones, it is left out.
    if not fits or not bool((file.get_tensor(SCALING_FACTOR).to(torch.float64) == 1).all()):
        raise TaskError("It has scaling factors (scaling_factor), which have no place in an SAE here.")


def _check_header(name: str, tensor: Any, shape: list[int], dtype: str) -> None:
    found, kind = list(tensor.get_shape()), str(tensor.get_dtype())
    if found != shape:
        raise TaskError(f"The tensor {name} has the shape {found}; d_in and d_sae say {shape}.")
    if kind not in _BITS:
        raise TaskError(
            f"The tensor {name} has values of the type {kind}; floating-point ones can be imported."
        )
    # sae-lens turns the weights into cfg.json's dtype: nothing changes where that is as wide, in both parts.
    if _NAMES[kind] != dtype and torch.promote_types(_type(_NAMES[kind]), _type(dtype)) != _type(dtype):
        raise TaskError(
            f"The tensor {name} is {_NAMES[kind]}, which SAELens would round to the {dtype} of cfg.json: say"
            f" {_NAMES[kind]} there, if the weights as they are stored are the ones that are meant."
        )


def _type(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _exactly_float32(name: str, tensor: Tensor) -> Tensor:
    converted = tensor.to(torch.float32)
    # NaN, which equals nothing, is told of as such.
    if tensor.dtype == torch.float64 and not torch.equal(
        converted.double().nan_to_num(), tensor.nan_to_num()
    ):
        raise TaskError(
            f"The tensor {name} is more precise than the float32 in which SAEs are computed here."
        )
    return converted.contiguous()


def tensors_of(weights: SaeWeights) -> dict[str, Tensor]:
    """Return the tensors of sae_weights.safetensors."""
    tensors = {
        "W_enc": weights.encoder_weight.T.contiguous(),
        "b_enc": weights.encoder_bias,
        "W_dec": weights.decoder_weight,
        "b_dec": weights.decoder_bias,
    }
    return tensors | ({"threshold": weights.threshold} if weights.threshold is not None else {})


def cfg_of(weights: SaeWeights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what cfg.json says of an SAE; ``metadata`` goes into its metadata."""
    of_topk = {"k": weights.k, "rescale_acts_by_decoder_norm": False}
    architecture = "jumprelu" if weights.threshold is not None else "topk" if weights.k else "standard"
    return {
        "architecture": architecture,
        "d_in": weights.n_inputs,
        "d_sae": weights.n_latents,
        **(of_topk if architecture == "topk" else {}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": weights.subtracts_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAE_LENS_VERSION, **metadata},
    }


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
