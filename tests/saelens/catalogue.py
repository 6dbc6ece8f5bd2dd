"""Writes the catalogue of public SAEs from what the sae-lens package lists, its facts only.

``python tests/saelens/catalogue.py FILE`` with an interpreter that has sae-lens; it needs nothing of this
server. Names are all that it reads: what an SAE's files say is read when it is imported.
"""

import gzip
import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

FORMATS = {
    None: "SAE_LENS",
    "gemma_2": "GEMMA_SCOPE",
    "gemma_2_transcoder": "GEMMA_SCOPE",
    "gemma_3": "GEMMA_SCOPE_2",
    "dictionary_learning_1": "DICTIONARY_LEARNING",
    "qwen_scope": "QWEN_SCOPE",
    "llama_scope": "LLAMA_SCOPE",
    "llama_scope_r1_distill": "LLAMA_SCOPE",
    "goodfire": "GOODFIRE",
    "deepseek_r1": "QRESEARCH",
    "mwhanna_transcoder": "CIRCUIT_TRACER",
    "mntss_clt_layer_transcoder": "CIRCUIT_TRACER",
    "connor_rob_hook_z": "CONNOR_ROB",
    "temporal": "TEMPORAL",
}
LANGUAGE_MODELS = {
    "gpt2-small": "openai-community/gpt2",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
}
"""What the names of TransformerLens are on the Hub, where the family's rule below does not tell."""
ARCHITECTURES = {
    "GEMMA_SCOPE": "jumprelu",
    "GEMMA_SCOPE_2": "jumprelu",
    "QWEN_SCOPE": "topk",
    "LLAMA_SCOPE": "jumprelu",
    "GOODFIRE": "standard",
    "QRESEARCH": "standard",
    "CONNOR_ROB": "standard",
    "TEMPORAL": "temporal",
}
OF_RELEASES = {
    "topk": r"_topk_|-v5-",
    "gated": r"_gated_",
    "batchtopk": r"matryoshka|saebench_|andyrdt",
}
"""Architectures that releases of several are told by; else standard."""
GEMMA_2 = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
GEMMA_3 = {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "attn.hook_z"}
LLAMA_SCOPE = {"R": "hook_resid_post", "M": "hook_mlp_out", "A": "hook_attn_out"}
WIDTHS = {"k": 1024, "m": 1024**2}
FIXED_WIDTHS = {"GOODFIRE": 65_536, "QRESEARCH": 65_536}


def language_model(release: str, name: str) -> str:
    """Return a language model's repository on the Hub."""
    if "gemma-scope-9b-it" in release:
        return "google/gemma-2-9b-it"  # The catalogue has the one that was not tuned.
    if found := re.fullmatch(r"qwen3-([\d.]+)b", name):
        return f"Qwen/Qwen3-{found[1]}B"
    if name.startswith("gemma-2"):
        return f"google/{name}"
    return LANGUAGE_MODELS.get(name, name)


def places(release: str, format: str, loader: str | None, sae: dict[str, Any]) -> tuple[str, str | None]:
    """Return the hooks that an SAE reads and, of a transcoder, writes, without the block."""
    path = str(sae["path"])
    if path.startswith("embedding/"):
        return "hook_embed", None
    if loader == "connor_rob_hook_z":
        return "attn.hook_z", None
    if loader == "gemma_2_transcoder":
        return "ln2.hook_normalized", "hook_mlp_out"
    if loader == "mwhanna_transcoder":
        return "mlp.hook_in", "hook_mlp_out"
    if loader == "mntss_clt_layer_transcoder":
        return "hook_resid_mid", "hook_mlp_out"
    if format == "GEMMA_SCOPE":
        return GEMMA_2[re.search(r"-(res|mlp|att)(-|$)", release)[1]], None  # type: ignore[index]
    if format == "GEMMA_SCOPE_2":
        kind = path.split("/")[0].removesuffix("_all")
        return ("hook_mlp_in", "hook_mlp_out") if kind == "transcoder" else (GEMMA_3[kind], None)
    if format == "LLAMA_SCOPE" and loader == "llama_scope":
        return LLAMA_SCOPE[re.search(r"L\d+([RAM])-", path)[1]], None  # type: ignore[index]
    if found := re.search(r"blocks\.\d+\.([a-z_.]*hook_(?:[a-z]|_(?!_|\d))+)", str(sae["id"])):
        return found[1], None
    return "hook_resid_post", None


def architecture(release: str, format: str, path: str, writes: str | None) -> str:
    """Return an architecture in SAELens' words."""
    if format == "CIRCUIT_TRACER":
        return "cross_layer_transcoder" if "clt" in release else "transcoder"
    if writes:
        return "jumprelu_skip_transcoder" if path.endswith("_affine") else "jumprelu_transcoder"
    told = (name for name, pattern in OF_RELEASES.items() if re.search(pattern, release))
    return ARCHITECTURES.get(format) or next(told, "standard")


def normalization(release: str, format: str, sae: dict[str, Any], overrides: dict[str, Any]) -> str | None:
    """Return how inputs are normalized where the weights do not hold it, in SAELens' words."""
    if "-v5-" in release:
        return "layer_norm"
    if format == "SAE_LENS" and sae.get("norm_scaling_factor") is not None:
        return "expected_average_only_in"
    return overrides.get("normalize_activations")


def is_centered(overrides: dict[str, Any]) -> bool:
    """Whether the language model's weights were centered where that is told by the catalogue alone."""
    return bool(overrides.get("model_from_pretrained_kwargs", {}).get("center_writing_weights"))


def depth(sae: dict[str, Any]) -> int | None:
    """Return the number of the block."""
    for text in (str(sae["id"]), str(sae["path"])):
        if found := re.search(r"(?:layer_?|blocks\.|^l)(\d+)", text):
            return int(found[1])
    return None


def width(release: str, format: str, repository: str, sae: dict[str, Any]) -> int | None:
    """Return the number of latents, as far as names tell it."""
    text = f"{release}/{repository}/{sae['id']}/{sae['path']}"
    if found := re.search(r"width[-_](\d+)([km])\b|width[-_](\d+)([km])_|-[wW](\d+)(K)-|-v5-(\d+)(k)", text):
        number, unit = [one for one in found.groups() if one]
        size = int(number) * WIDTHS[unit.lower()]
        return 1 << (size.bit_length() - 1) if unit in "km" and number not in ("1",) else size
    if found := re.search(r"width-2pow(\d+)", text):
        return 1 << int(found[1])
    if found := re.search(r"-w-(\d+)k-", text):
        return int(found[1]) * 1024
    if found := re.search(r"_(8|32)x\b", text):
        return int(found[1]) * 4096
    if found := re.search(r"_(\d{3,6})(?:_anthropic|:v\d)?$|_ds(\d{3,6})_", text):
        return int(found[1] or found[2])
    if found := re.search(r"sae_bench-\w+-res-(\d+)k__", sae.get("neuronpedia") or ""):
        return int(found[1]) * 1024
    return FIXED_WIDTHS.get(format)


def l0(sae: dict[str, Any]) -> float | None:
    """Return the mean number of active latents that is stated."""
    found = re.search(r"average_l0_(\d+)", str(sae["path"]))
    stated = sae.get("l0", found and found[1])
    return None if stated is None else float(stated)


def described(name: str, release: dict[str, Any]) -> dict[str, Any]:
    """Return a release with its SAEs: what several share by its number, and what each has alone."""
    loader, repository = release["conversion_func"], release["repo_id"]
    format = FORMATS[loader]
    kinds: list[list[str | None]] = []
    rows = []
    for sae in release["saes"]:
        path = str(sae["path"])
        reads, writes = places(name, format, loader, sae)
        overrides = release.get("config_overrides") or {}
        normalized = normalization(name, format, sae, overrides)
        kind = [architecture(name, format, path, writes), normalized, reads, writes]
        if kind not in kinds:
            kinds.append(kind)
        scale = sae.get("norm_scaling_factor") if kind[1] == "expected_average_only_in" else None
        block = None if reads == "hook_embed" else depth(sae)
        facts = [block, width(name, format, repository, sae), l0(sae), scale]
        rows.append([sae["id"], None if path == sae["id"] else path, kinds.index(kind), *facts])
    return {
        "release": name,
        "language_model": language_model(name, release["model"]),
        "repository": repository,
        "format": format,
        "centered": is_centered(release.get("config_overrides") or {}),
        "kinds": kinds,
        "saes": rows,
    }


def main(target: Path) -> None:
    """Write the catalogue."""
    package = distribution("sae-lens")  # Not imported, which takes half a minute.
    text = Path(str(package.locate_file("sae_lens/pretrained_saes.yaml"))).read_text()
    listed = yaml.load(text, Loader=yaml.CSafeLoader)
    releases = [described(name, release) for name, release in sorted(listed.items())]
    catalogue = {"source": f"sae-lens {package.version}", "releases": releases}
    packed = json.dumps(catalogue, separators=(",", ":")).encode()
    target.write_bytes(gzip.compress(packed, mtime=0))  # The same bytes each time.
    print(f"{sum(len(one['saes']) for one in releases):,} SAEs of {len(releases)} releases in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
