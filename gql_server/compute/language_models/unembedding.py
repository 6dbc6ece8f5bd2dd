"""What a language model does with its residual stream in the end: final norm, unembedding, logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.language_models.layers import describe_layers

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

_LARGE = 1e3
"""Beside values of this size a norm's epsilon is nothing."""
_PROBE_TOLERANCE = 1e-3
_SCALE_TOLERANCE = 1e-2


class NoUnembedding(Exception):
    """The way from a layer to the logits is none that can be told; the message is a sentence."""


@dataclass(frozen=True)
class Unembedding:
    """logits = scale * weight (gain * centred(x) / size(x) + bias), as far as x alone is concerned.

    ``weight`` [n_tokens, width], in the model's precision, has a row for each token that the tokenizer knows.
    ``size`` is the root of the mean square of what the norm scales: x, or x - mean(x) where it centres.
    """

    weight: Tensor
    gain: Tensor
    centres: bool
    scale: float

    def seen(self, directions: Tensor) -> Tensor:
        """Return what the weight is multiplied with for directions [n, width], without size(x)."""
        directions = directions.to(self.gain.device)
        if self.centres:
            directions = directions - directions.mean(dim=1, keepdim=True)
        return directions * self.gain * self.scale


def find_unembedding(lm: LanguageModel, layer: str) -> Unembedding:
    """Return the end of the way from a layer that adds to the residual stream to the logits.

    It is seen and not read off names: the final norm is the one whose output the unembedding gets; its gain
    is what it does to given vectors, so that gains of another form (Gemma's 1 + weight) are right; a factor
    of the logits is the ratio of the logits to the unembedding's output. What bounds the logits (a soft cap)
    is left out: it has slope 1 at 0, and never changes their order.

    Raises NoUnembedding where it is another way, or none.
    """
    head = lm.model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise NoUnembedding("The language model has no linear output layer.")
    _check_layer(lm, layer)
    end = _watch(lm, head)
    norm = next((norm for norm, output in end.norms if torch.equal(output, end.head_input)), None)
    if norm is None:
        raise NoUnembedding("The language model's output layer does not come right after a final norm.")
    gain, centres = _probe(norm, head.in_features)
    return Unembedding(head.weight.detach()[: len(lm.tokenizer)], gain, centres, _scale(lm, end))


def _check_layer(lm: LanguageModel, layer: str) -> None:
    kind = next((described.kind for described in describe_layers(lm) if described.name == layer), None)
    if kind not in ("BLOCK", "ATTENTION", "MLP"):
        raise NoUnembedding(f"Layer {layer} is not known to add to the residual stream.")
    if kind != "BLOCK" and _is_normed(lm, layer):
        raise NoUnembedding(
            f"The output of layer {layer} goes through a norm before it is added to the rest."
        )


def _is_normed(lm: LanguageModel, layer: str) -> bool:
    """Whether what the layer puts out goes straight into a norm, as in models with norms after it."""
    outputs: list[Tensor | None] = []
    normed: list[bool] = []

    def see_layer(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(extract_tensor_from_output(output))

    def see_norm(module: nn.Module, inputs: Any, output: Any) -> None:
        normed.append(any(inputs[0] is seen for seen in outputs))

    norms = [(module, see_norm) for _, module in _norms(lm)]
    _run(lm, [(lm.layers.name_to_layer[layer], see_layer), *norms])
    return any(normed)


@dataclass
class _End:
    """What a forward pass showed of the model's end."""

    norms: list[tuple[nn.Module, Tensor]]
    """Those outside the blocks, with their outputs."""
    head_input: Tensor
    head_output: Tensor
    logits: Tensor


def _watch(lm: LanguageModel, head: nn.Module) -> _End:
    norms: list[tuple[nn.Module, Tensor]] = []
    heads: list[tuple[Tensor, Tensor]] = []

    def see_norm(module: nn.Module, inputs: Any, output: Any) -> None:
        norms.append((module, output))

    def see_head(module: nn.Module, inputs: Any, output: Any) -> None:
        heads.append((inputs[0], output))

    outside = [module for name, module in _norms(lm) if not any(map(str.isdigit, name.split(".")))]
    logits = _run(lm, [(head, see_head), *((module, see_norm) for module in outside)])
    if len(heads) != 1:
        raise NoUnembedding("The language model does not use its output layer once.")
    return _End(norms, *heads[0], logits)


def _norms(lm: LanguageModel) -> list[tuple[str, nn.Module]]:
    modules = lm.model.named_modules()
    return [(name, module) for name, module in modules if "norm" in type(module).__name__.lower()]


def _run(lm: LanguageModel, hooks: Sequence[tuple[nn.Module, Callable[..., None]]]) -> Tensor:
    """Run a few tokens through the model and return the logits."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    ids = torch.arange(6, device=lm.context.device).view(2, 3) % len(lm.tokenizer)
    try:
        with torch.inference_mode():
            logits: Tensor = lm.model(input_ids=ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits


def _probe(norm: nn.Module, width: int) -> tuple[Tensor, bool]:
    """Return a norm's gain [width], and whether it takes the mean off."""
    values = {name: tensor.detach().float() for name, tensor in norm.state_dict().items()}
    device = next(norm.parameters()).device

    def normed(x: Tensor) -> Tensor:
        output: Tensor = functional_call(norm, values, (x * _LARGE,))
        return output

    # Of mean 0 (where the width is even) and mean square 1, so that nothing but gain and bias is left.
    signs = torch.ones(width, device=device)
    signs[1::2] = -1.0
    slope = torch.linspace(-1.0, 3.0, width, device=device)
    with torch.inference_mode():
        up, down, expected = normed(signs), normed(-signs), normed(slope)
    gain, bias = (up - down) / 2 * signs, (up + down) / 2
    tolerance = _PROBE_TOLERANCE * float(gain.abs().max())
    for centres in (False, True):
        x = slope - slope.mean() if centres else slope
        if torch.allclose(gain * x / x.square().mean().sqrt() + bias, expected, _PROBE_TOLERANCE, tolerance):
            return gain, centres
    raise NoUnembedding("The language model's final norm is neither a LayerNorm nor an RMSNorm.")


def _scale(lm: LanguageModel, end: _End) -> float:
    """Return what the unembedding's output is multiplied with."""
    if getattr(lm.model.config.get_text_config(), "final_logit_softcapping", None):
        return 1.0
    # On the CPU, since not every device has float64.
    output, logits = (tensor.cpu().double().flatten() for tensor in (end.head_output, end.logits))
    if output.shape != logits.shape:
        raise NoUnembedding("The language model's logits are not what its output layer gives.")
    scale = float((output * logits).sum() / output.square().sum())
    if not (logits - scale * output).norm() <= _SCALE_TOLERANCE * logits.norm():
        raise NoUnembedding(
            "The language model's logits are not in proportion to what its output layer gives."
        )
    return scale
