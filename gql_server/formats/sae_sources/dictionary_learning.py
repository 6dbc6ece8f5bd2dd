"""dictionary_learning (saprmarks; also SAEBench's): ae.pt, a state dict, with config.json beside it.

``AutoEncoder``: a = relu(W_e (x - bias) + b_e), x_hat = W_d a + bias; ``AutoEncoderNew`` does not subtract.
``JumpReluAutoEncoder`` does not subtract, and has a threshold for each latent. ``AutoEncoderTopK`` keeps the
k largest of relu(W_e (x - b_dec) + b_e), ``BatchTopKSAE`` and ``MatryoshkaBatchTopKSAE`` those above one
threshold, -1 for none. ``GatedAutoEncoder``: a = relu(exp(r_mag) z + mag_bias) where z + gate_bias > 0, of
z = W_e (x - decoder_bias). What ``normalize_activations`` multiplies by in training is in the weights when
the library saves them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gql_server.formats.sae_sources.description import (
    MagnitudeParts,
    Part,
    SaeDescription,
    Sizes,
    Threshold,
    WeightsPlan,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.gemma_scope import plan_of
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, number, text
from gql_server.formats.sae_sources.tensor_files import TensorFile

CONFIG = "config.json"
_LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight"}
_MATRICES = {"W_enc", "b_enc", "W_dec", "b_dec"}
_STATE = {"k", "threshold", "group_sizes", "group_weights"}
_GATED = {"encoder.weight", "gate_bias", "r_mag", "mag_bias", "decoder.weight"}
_NAMES = {
    "AutoEncoder": _LINEAR | {"bias"},
    "AutoEncoderNew": _LINEAR | {"decoder.bias"},
    "JumpReluAutoEncoder": _MATRICES | {"threshold"},
    "AutoEncoderTopK": _LINEAR | {"b_dec"},
    "BatchTopKSAE": _LINEAR | {"b_dec", "threshold"},
    "MatryoshkaBatchTopKSAE": _MATRICES | {"threshold"},
    "GatedAutoEncoder": _GATED | {"decoder_bias"},
}
CLASSES = tuple(_NAMES)
_TRAINERS = {
    "TopKTrainer": "AutoEncoderTopK",
    "BatchTopKTrainer": "BatchTopKSAE",
    "MatryoshkaBatchTopKTrainer": "MatryoshkaBatchTopKSAE",
    "JumpReluTrainer": "JumpReluAutoEncoder",
    "GatedSAETrainer": "GatedAutoEncoder",
}


def matches(files: SourceFiles) -> bool:
    """Whether there is one file of tensors that are named as those of a class of the library."""
    name = _file(files)
    if name is None:
        return False
    tensors = files.tensors(name).tensors.keys()
    told = "trainer" in files.json_if_any(CONFIG) or bool({"r_mag", "bias", "b_dec"} & (tensors - _MATRICES))
    linear = tensors >= _LINEAR and (told or "b_dec" in tensors)
    return linear or tensors >= _MATRICES | {"threshold"} or tensors >= _GATED


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    name = _file(files)
    if name is None:
        raise NotRepresentable("The directory has no ae.pt.")
    config = files.json_if_any(CONFIG)
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    is_transcoder = _is_transcoder(config)
    file = files.tensors(name)
    found = _class_of(file, trainer)
    k = _k(files, name, trainer) if "TopK" in found else None
    sizes, plan = _PLANS[found](file)
    # Of a transcoder it is the module that is written and whose input is read.
    place = None if is_transcoder else _place(trainer)
    return SaeDescription(
        format="DICTIONARY_LEARNING",
        architecture=found,
        sae_class=_sae_class(found, k),
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=k,
        files=(*([CONFIG] if CONFIG in files.names else []), name),
        weights=plan,
        place=place,
        is_transcoder=is_transcoder,
        output_place=_place(trainer) if is_transcoder else None,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of(
            found,
            plan,
            place=place,
            model_name=text(trainer, "lm_name"),
            submodule_name=text(trainer, "submodule_name"),
        ),
    )


def _file(files: SourceFiles) -> str | None:
    return files.pick("ae.pt") or files.checkpoint


def _is_transcoder(config: dict[str, Any]) -> bool:
    """Whether it goes from a module's input to its output. NotRepresentable where it is for an input."""
    buffer = config.get("buffer")
    side = buffer.get("io", "out") if isinstance(buffer, dict) else "out"
    if side not in ("out", "in_and_out", "in->out"):
        raise NotRepresentable(
            f"It is for the input of a module (buffer.io is {shown(side)}): only SAEs of a module's output,"
            " and transcoders from its input to that, can be imported."
        )
    return side != "out"


def _class_of(file: TensorFile, trainer: dict[str, Any]) -> str:
    """Return the library's class, as the configuration or the tensors' names say."""
    said = text(trainer, "dict_class")
    if said not in _NAMES:
        said = _TRAINERS.get(str(trainer.get("trainer_class")))
    # StandardTrainer writes AutoEncoder, whichever of its two classes it trained.
    if said is None or (said == "AutoEncoder" and file.tensors.keys() >= _NAMES["AutoEncoderNew"]):
        said = _by_names(file)
    file.check_names(_NAMES[said], _STATE, said)
    return str(said)


def _by_names(file: TensorFile) -> str:
    names = set(file.tensors)
    if names >= _LINEAR | {"b_dec"}:
        raise NotRepresentable(
            "It is an AutoEncoderTopK or a BatchTopKSAE, which have the same tensors: put the config.json"
            " beside it that says which (trainer.dict_class)."
        )
    if names & {"group_sizes", "group_weights"}:
        return "MatryoshkaBatchTopKSAE"
    found = [name for name, wanted in _NAMES.items() if names >= wanted]
    if not found:
        raise NotRepresentable(
            "Its tensors are those of no class of dictionary_learning's that can be imported:"
            f" {file.shapes()}."
        )
    return found[0]


def _k(files: SourceFiles, name: str, trainer: dict[str, Any]) -> int | None:
    """Return k, of the file or of the configuration."""
    in_file = "k" in files.tensors(name).tensors
    value = number({"k": files.scalar(name, "k")} if in_file else trainer, "k")
    return int(value) if value is not None and value >= 1 and value == int(value) else None


def _sae_class(found: str, k: int | None) -> str:
    if found == "AutoEncoderTopK":
        if k is None:
            raise NotRepresentable("Neither the file nor config.json says k, a number from 1.")
        return "BiasedTopKSae"
    if found in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        # k has no part in what it computes after training; a class that names one needs it.
        return "JumpReLUSae" if k is None else "BatchTopKSae"
    if found == "GatedAutoEncoder":
        return "GatedSae"
    return "JumpReLUSae" if found == "JumpReluAutoEncoder" else "ReLUSae"


def _place(trainer: dict[str, Any]) -> str | None:
    """Return the module, where the configuration names a block's output."""
    layer, submodule = trainer.get("layer"), text(trainer, "submodule_name") or ""
    is_block = submodule.startswith(("resid_post", "resid"))
    return f"model.layers.{layer}" if is_block and isinstance(layer, int) and 0 <= layer < 10_000 else None


def _linear(file: TensorFile, bias: str, *, subtracts: bool) -> tuple[Sizes, WeightsPlan]:
    """Return the plan of two linear layers, and a bias behind the second."""
    sizes = Sizes(file.size(bias), file.size("encoder.bias"))
    names = ("encoder.weight", "encoder.bias", "decoder.weight", bias)
    return sizes, sizes.plan(file, names, subtracts_bias=subtracts, decoder_by_input=True)


def _batch_topk(file: TensorFile) -> tuple[Sizes, WeightsPlan]:
    sizes, plan = _linear(file, "b_dec", subtracts=True)
    return sizes, _with_one_threshold(file, plan)


def _matryoshka(file: TensorFile) -> tuple[Sizes, WeightsPlan]:
    sizes = Sizes(file.size("b_dec"), file.size("b_enc"))
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    plan = sizes.plan(file, names, subtracts_bias=True, encoder_by_input=True)
    return sizes, _with_one_threshold(file, plan)


def _with_one_threshold(file: TensorFile, plan: WeightsPlan) -> WeightsPlan:
    part = Part(file.weight("threshold", [], "one threshold for all neurons must"))
    return replace(plan, threshold=Threshold(part))


def _jumprelu(file: TensorFile) -> tuple[Sizes, WeightsPlan]:
    return Sizes(file.size("b_dec"), file.size("b_enc")), plan_of(file)


def _gated(file: TensorFile) -> tuple[Sizes, WeightsPlan]:
    sizes = Sizes(file.size("decoder_bias"), file.size("gate_bias"))
    names = ("encoder.weight", "gate_bias", "decoder.weight", "decoder_bias")
    plan = sizes.plan(file, names, subtracts_bias=True, decoder_by_input=True)
    parts = MagnitudeParts(sizes.latents(file, "r_mag"), sizes.latents(file, "mag_bias"))
    return sizes, replace(plan, magnitudes=parts)


_PLANS: dict[str, Callable[[TensorFile], tuple[Sizes, WeightsPlan]]] = {
    "AutoEncoder": lambda file: _linear(file, "bias", subtracts=True),
    "AutoEncoderNew": lambda file: _linear(file, "decoder.bias", subtracts=False),
    "JumpReluAutoEncoder": _jumprelu,
    "AutoEncoderTopK": lambda file: _linear(file, "b_dec", subtracts=True),
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "GatedAutoEncoder": _gated,
}
