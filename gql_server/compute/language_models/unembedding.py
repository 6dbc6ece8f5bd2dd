"""What a language model does with its residual stream in the end: final norm, unembedding, logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.direct_path import ModelFailed, direct_factor, run
from gql_server.compute.language_models.layer_trace import trace
from gql_server.compute.language_models.layers import describe_layers, why_not
from gql_server.compute.language_models.module_inputs import ModuleInput, is_linear

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

_LARGE = 1e3
"""Size of probe values, beside which a norm's epsilon is negligible."""
_PROBE_TOLERANCE = 1e-3
_SCALE_TOLERANCE = 1e-2


class NoUnembedding(Exception):
    """The way from a layer to the logits is none that can be told; the message is a sentence."""


@dataclass(frozen=True)
class Unembedding:
    """logits = scale * weight (gain * centered(x) / size(x) + bias), as far as x alone is concerned.

    ``weight`` [n_tokens, width], in the model's precision, has a row for each token that the tokenizer knows.
    ``size`` is the root of the mean square of what the norm scales: x, or x - mean(x) where it centers.
    ``reader`` is the linear module that the layer is the input of, if it is one: what that makes of a
    direction is added to x.
    """

    weight: Tensor
    gain: Tensor
    centers: bool
    scale: float
    reader: nn.Module | None = None

    def seen(self, directions: Tensor) -> Tensor:
        """Return what the weight is multiplied with for directions [n, n_inputs], without size(x).

        Raises NoUnembedding where they are of another width than the layer.
        """
        directions = directions.to(self.gain.device)
        if self.reader is not None:
            directions = _read(self.reader, directions)
        if directions.shape[1] != self.weight.shape[1]:
            raise NoUnembedding(
                f"The SAE's layer is {directions.shape[1]} wide, the residual stream {self.weight.shape[1]}."
            )
        if self.centers:
            directions = directions - directions.mean(dim=1, keepdim=True)
        return directions * self.gain * self.scale


def find_unembedding(lm: LanguageModel, layer: str) -> Unembedding:
    """Return the end of the way from a layer that adds to the residual stream to the logits.

    It is seen and not read off names: the final norm is the one whose output the unembedding gets; its gain
    is what it does to given vectors, so that gains of another form (Gemma's 1 + weight), or none (OLMo), are
    right; a factor of the logits is the ratio of the logits to the unembedding's output; one of the layer is
    what direct_path.py measures. What bounds the logits (a soft cap) is left out: it has slope 1 at 0, and
    never changes their order.

    Raises NoUnembedding where it is another way, or none.
    """
    try:
        head = lm.model.get_output_embeddings()
        if head is None:
            raise NoUnembedding("The language model has no output layer.")
        if reason := why_not(lm, layer):
            raise NoUnembedding(reason)
        end = _watch(lm, head)
        weight = _weight(lm, head, end)
        norm, gain, centers, before = _final_norm(end, weight.shape[1])
        reader = _reader(lm, layer)
        scale = before * _scale(lm, end) * _added(lm, layer, reader, norm)
    except ModelFailed as error:
        raise NoUnembedding(str(error)) from error
    return Unembedding(weight[: len(lm.tokenizer)], gain, centers, scale, reader)


def _reader(lm: LanguageModel, layer: str) -> nn.Module | None:
    """Return the module that the layer is the input of, where that multiplies it with a matrix."""
    place = lm.layers.name_to_layer[layer]
    if not isinstance(place, ModuleInput) or not is_linear(place.reader):
        return None
    width = trace(lm).layers[layer].width
    probe = torch.linspace(-1.0, 1.0, width, device=next(lm.model.parameters()).device).view(1, -1)
    found = _read(place.reader, torch.cat([probe, probe.square(), 2 * probe - 3 * probe.square()]))
    return place.reader if _near(2 * found[0] - 3 * found[1], found[2]) else None


def _read(reader: nn.Module, directions: Tensor) -> Tensor:
    """Return what a linear module makes of directions [n, n_inputs], without its bias, in float32."""
    values = {name: tensor.detach().float() for name, tensor in reader.state_dict().items()}
    zero = torch.zeros_like(directions[:1])
    with torch.inference_mode():
        read: Tensor = functional_call(reader, values, (torch.cat([zero, directions]).float(),))
    return read[1:] - read[0]


def _weight(lm: LanguageModel, head: nn.Module, end: "_End") -> Tensor:
    """Return what the output layer multiplies with, [n_rows, width]."""
    weight = getattr(head, "weight", None)
    width = end.head_input.shape[-1]
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] != width:
        raise NoUnembedding("The language model has no linear output layer.")
    weight = weight.detach()
    if not isinstance(head, nn.Linear):
        given, found = (
            end.head_input.reshape(-1, width),
            end.head_output.reshape(-1, end.head_output.shape[-1]),
        )
        # The difference of two tokens is without a bias.
        expected = (given[1:] - given[:-1]).float() @ weight.float().T
        actual = (found[1:] - found[:-1]).float()
        if expected.shape != actual.shape or not _near(actual, expected):
            raise NoUnembedding("The language model's output layer is not linear.")
    return weight


def _added(lm: LanguageModel, layer: str, reader: nn.Module | None, norm: nn.Module) -> float:
    """Return the factor with which the layer's or its reader's output is added to the final norm's input."""
    module = lm.layers.name_to_layer[layer] if reader is None else reader
    factor = direct_factor(lm, module, norm)
    is_block = any(one.name == layer and one.kind == "BLOCK" for one in describe_layers(lm))
    if factor is None and not is_block and _is_normed(lm, module):
        raise NoUnembedding(
            f"The output of layer {layer} goes through a norm before it is added to the rest."
        )
    if factor is None:
        raise NoUnembedding(f"Layer {layer} is not known to add to the residual stream.")
    return factor


def _is_normed(lm: LanguageModel, layer: nn.Module) -> bool:
    """Whether what a module puts out goes straight into a norm, as in models with norms after it."""
    outputs: list[Tensor | None] = []
    normed: list[bool] = []

    def see_layer(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(extract_tensor_from_output(output))

    def see_norm(module: nn.Module, inputs: Any, output: Any) -> None:
        normed.append(any(value is seen for value in inputs for seen in outputs if seen is not None))

    modules = lm.model.modules()
    norms = [(module, see_norm) for module in modules if "norm" in type(module).__name__.lower()]
    run(lm, [(layer, see_layer), *norms])
    return any(normed)


@dataclass
class _End:
    """What a forward pass showed of the model's end."""

    candidates: list[tuple[nn.Module, Tensor]]
    """What may be the final norm: modules outside the blocks, with their outputs, the last first."""
    head_input: Tensor
    head_output: Tensor
    logits: Tensor


def _watch(lm: LanguageModel, head: nn.Module) -> _End:
    seen: list[tuple[nn.Module, Tensor]] = []
    heads: list[tuple[Tensor, Tensor]] = []

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((module, output))

    def see_head(module: nn.Module, inputs: Any, output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            heads.append((inputs[0], output))

    outside = [
        module
        for name, module in lm.model.named_modules()
        if module is not head
        and next(module.children(), None) is None
        and not any(map(str.isdigit, name.split(".")))
    ]
    logits = run(lm, [(head, see_head), *((module, see) for module in outside)])
    if len(heads) != 1:
        raise NoUnembedding("The language model does not use its output layer once.")
    return _End(seen[::-1], *heads[0], logits)


def _final_norm(end: _End, width: int) -> tuple[nn.Module, Tensor, bool, float]:
    """Return the final norm, its gain, whether it takes the mean off, and a factor of what it gives."""
    named = False
    for module, output in end.candidates:
        factor = _ratio(output, end.head_input)
        if factor is None:
            continue
        named = named or "norm" in type(module).__name__.lower()
        probed = _probe(module, width, end.head_input.device)
        if probed is not None:
            return module, *probed, factor
    if named:
        raise NoUnembedding("The language model's final norm is neither a LayerNorm nor an RMSNorm.")
    raise NoUnembedding("The language model's output layer does not come right after a final norm.")


def gain_and_bias(norm: nn.Module, width: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Return a norm's gain and bias [width], by what it does to given vectors; None of what is no norm."""
    probed = _probe(norm, width, device)
    if probed is None:
        return None
    signs = torch.ones(width, device=device)
    signs[1::2] = -1.0
    values = {name: tensor.detach().float() for name, tensor in norm.state_dict().items()}
    with torch.inference_mode():
        up, down = (functional_call(norm, values, (sign * signs * _LARGE,)).float() for sign in (1, -1))
    return probed[0].clone(), ((up + down) / 2).clone()


def _probe(norm: nn.Module, width: int, device: torch.device) -> tuple[Tensor, bool] | None:
    """Return a norm's gain [width], and whether it takes the mean off; None of what is no norm."""
    values = {name: tensor.detach().float() for name, tensor in norm.state_dict().items()}

    def normed(x: Tensor) -> Tensor:
        output: Tensor = functional_call(norm, values, (x * _LARGE,))
        return output.float()

    # Of mean 0 (where the width is even) and mean square 1, so that nothing but gain and bias is left.
    signs = torch.ones(width, device=device)
    signs[1::2] = -1.0
    slope = torch.linspace(-1.0, 3.0, width, device=device)
    try:
        with torch.inference_mode():
            up, down, expected = normed(signs), normed(-signs), normed(slope)
    except (RuntimeError, TypeError, ValueError, IndexError):
        # A module that takes something else than vectors.
        return None
    gain, bias = (up - down) / 2 * signs, (up + down) / 2
    tolerance = _PROBE_TOLERANCE * float(gain.abs().max())
    for centers in (False, True):
        x = slope - slope.mean() if centers else slope
        if torch.allclose(gain * x / x.square().mean().sqrt() + bias, expected, _PROBE_TOLERANCE, tolerance):
            return gain, centers
    return None


def _scale(lm: LanguageModel, end: _End) -> float:
    """Return what the unembedding's output is multiplied with."""
    if getattr(lm.model.config.get_text_config(), "final_logit_softcapping", None):
        return 1.0
    if end.head_output.shape != end.logits.shape:
        raise NoUnembedding("The language model's logits are not what its output layer gives.")
    scale = _ratio(end.head_output, end.logits)
    if scale is None:
        raise NoUnembedding(
            "The language model's logits are not in proportion to what its output layer gives."
        )
    return scale


def _ratio(before: Tensor, after: Tensor) -> float | None:
    """Return the number that one tensor is multiplied with to give another; None where there is none."""
    if before.shape != after.shape:
        return None
    if torch.equal(before, after):
        return 1.0
    # On the CPU, since not every device has float64.
    before, after = before.cpu().double().flatten(), after.cpu().double().flatten()
    ratio = float((before * after).sum() / before.square().sum())
    return ratio if _near(ratio * before, after) else None


def _near(found: Tensor, expected: Tensor) -> bool:
    # False also where it is not finite.
    return bool((found - expected).norm() <= _SCALE_TOLERANCE * expected.norm())
