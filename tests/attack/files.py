"""Files that stand for much more than they are, or for something else."""

import io
import json
import os
import threading
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from gql_server import ids
from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.site import Site

CAPTURE = """mutation ($file: Upload!, $model: ID!, $limit: Int) { captureActivations(input: {
  languageModelId: $model, layers: ["llamaforcausallm_model_layers_0"], sampleLimit: $limit,
  dataset: {upload: {file: $file}}}) { __typename ... on Error { message } } }"""
CAPTURE_FILE = """mutation ($path: String!, $model: ID!) { captureActivations(input: {
  languageModelId: $model, layers: ["llamaforcausallm_model_layers_0"], sampleLimit: 1,
  dataset: {file: {path: $path}}}) { __typename ... on Error { message } } }"""

ADD = """mutation ($input: AddLanguageModelInput!) { addLanguageModel(input: $input) {
  __typename ... on LanguageModelAdded { languageModel { id } } ... on Error { message } } }"""


async def capture(site: Site, name: str, content: bytes, limit: int | None = None) -> str:
    """Return what becomes of a capture of an upload's texts."""
    return refusal_of(await site.upload(CAPTURE, name, content, model=site.language_model_id, limit=limit))


def parquet_bomb(n_rows: int, n_characters: int) -> bytes:
    """Return a Parquet file of few bytes in which each row is the same long text."""
    file = io.BytesIO()
    text = pa.array(["x" * n_characters]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), text.dictionary)
    pq.write_table(pa.table({"text": column}), file, compression="zstd")
    return file.getvalue()


@attack("1", "Parquet of 5 kB, 10 GB of texts")
async def parquet(site: Site, scale: Scale) -> str:
    """Rows that are one long value of a dictionary."""
    return await capture(site, "bomb.parquet", parquet_bomb(100_000, 100_000))


@attack("1", "the same, one text wanted")
async def parquet_for_one_text(site: Site, scale: Scale) -> str:
    """What stands behind the text that is wanted must not be read."""
    return await capture(site, "bomb.parquet", parquet_bomb(100_000, 100_000), limit=1)


@attack("1", "short JSON lines")
async def short_lines(site: Site, scale: Scale) -> str:
    """As many rows as fit."""
    return await capture(site, "many.jsonl", b'{"text": "a"}\n' * (scale.bytes // 14))


@attack("1", "a CSV of columns")
async def columns(site: Site, scale: Scale) -> str:
    """A header without end."""
    return await capture(site, "wide.csv", b"a," * (scale.bytes // 2) + b"text\n")


@attack("1", "lines of a text file")
async def empty_lines(site: Site, scale: Scale) -> str:
    """As many texts as fit."""
    return await capture(site, "lines.txt", b"a\n" * (scale.bytes // 2))


@attack("1", "a gzip of zeros")
async def gzip_of_zeros(site: Site, scale: Scale) -> str:
    """What expands a thousand times."""
    import gzip

    return await capture(site, "zeros.jsonl.gz", gzip.compress(b" " * (20 * scale.bytes)))


@attack("1", "JSON in JSON in JSON")
async def nested_json(site: Site, scale: Scale) -> str:
    """Brackets without end."""
    return await capture(site, "deep.json", b"[" * scale.bytes)


@attack("1", "a file of concepts")
async def concepts(site: Site, scale: Scale) -> str:
    """Names for more neurons than there are, in one object."""
    content = json.dumps({"concepts": {str(i): {"name": "x"} for i in range(scale.bytes // 26)}}).encode()
    mutation = """mutation ($file: Upload!, $sae: ID!) { importConcepts(input: {saeId: $sae,
      source: {upload: $file}}) { __typename ... on Error { message } } }"""
    return refusal_of(await site.upload(mutation, "concepts.json", content, sae=site.sae_id))


@attack("3", "a pipe for a language model")
async def pipe_as_model(site: Site, scale: Scale) -> str:
    """Opening it waits for somebody who writes."""
    path = site.models / "pipe.gguf"
    os.mkfifo(path)
    answer = await site.ask(ADD, input={"name": "pipe", "source": {"path": str(path)}})
    path.unlink()
    return refusal_of(answer)


@attack("3", "a pipe for a dataset")
async def pipe_as_dataset(site: Site, scale: Scale) -> str:
    """Likewise."""
    path = site.files / "pipe.txt"
    os.mkfifo(path)
    answer = await site.ask(CAPTURE_FILE, path=str(path), model=site.language_model_id)
    path.unlink()
    return refusal_of(answer)


@attack("7", "a file that turns into a link and back")
async def swapped(site: Site, scale: Scale) -> str:
    """Between the look at a path and its opening it leads out of the directory."""
    outside = site.artifact_dir.parent / "outside.txt"
    outside.write_text("a secret of somebody else's\n")
    path, link = site.files / "swapped.txt", site.files / "link.txt"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            path.with_suffix(".tmp").write_text("mine\n")
            path.with_suffix(".tmp").replace(path)
            link.symlink_to(outside)
            link.replace(path)

    path.write_text("mine\n")
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        told = {
            refusal_of(await site.ask(CAPTURE_FILE, path=str(path), model=site.language_model_id))
            for _ in range(10 * scale.times)
        }
    finally:
        stop.set()
        swapping.join()
        with suppress(FileNotFoundError):
            path.unlink()
    for kept in site.artifact_dir.rglob("texts.arrow"):
        assert b"a secret" not in kept.read_bytes(), "a file outside of the directories was read"
    return "; ".join(sorted(told))[:90]


@attack("12", "an index that is cut off while neurons are looked at")
async def cut_off(site: Site, scale: Scale) -> str:
    """As by a copy that is written over it."""
    (path,) = site.artifact_dir.rglob(f"{ids.NEURON_INDEX}_*/batch_000000.safetensors")
    content = path.read_bytes()
    query = """query ($sae: ID!) { sae(id: $sae) { neurons(first: 20, orderBy: FREQUENCY_DESC) { nodes {
      frequency activationHistogram { counts } topTexts { text } similarNeurons { cosine } } } } }"""
    told: set[str] = set()
    stop = threading.Event()

    def cut_and_mend() -> None:
        while not stop.is_set():
            os.truncate(path, 4096)
            os.truncate(path, 0)
            path.write_bytes(content)

    cutting = threading.Thread(target=cut_and_mend)
    cutting.start()
    try:
        for _ in range(10 * scale.times):
            answer = await site.ask(query, sae=site.sae_id)
            told.add(answer["errors"][0]["extensions"]["code"] if "errors" in answer else "as it is")
    finally:
        stop.set()
        cutting.join()
    assert "INTERNAL" not in told
    return "; ".join(sorted(told))


@attack("13", "names with what acts on terminals")
async def names(site: Site, scale: Scale) -> str:
    """Escape sequences, line ends, marks of the writing direction."""
    bad = ("\x1b[2J", "a\nlevel=error forged", "a\u202eb", "\x07")
    named = [{"name": name, "source": {"path": str(site.models / "tiny")}} for name in bad]
    told = {refusal_of(await site.ask(ADD, input=one)) for one in named}
    lines = site.log.read_bytes().splitlines()
    for line in lines:
        assert b"\x1b" not in line and json.loads(line), "a line of the log is no JSON, or acts on a terminal"
    return "; ".join(sorted(told))
