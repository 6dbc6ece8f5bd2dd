"""Checkpoints' pickles: what torch.save writes is read as torch reads it, and no pickle takes the worker."""

import pickletools
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gql_server.compute.formats.checkpoint_files import opened
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.pickles import MAX_DEPTH, StoredTensor, read_pickle
from gql_server.formats.sae_sources.refusing import NotRepresentable
from tests.saelens.cases import CLASSES, make

PROTO, ORDERED = b"\x80\x02", b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return (
        b"J" + struct.pack("<i", value)
        if -(2**31) <= value < 2**31
        else b"\x8a\x08" + struct.pack("<q", value)
    )


def together(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(n_values: int, kind: str = "FloatStorage") -> bytes:
    named = f"ctorch\n{kind}\n".encode()
    return together(text("storage"), named, text("0"), text("cpu"), number(n_values)) + b"Q"


def tensor(
    shape: tuple[int, ...], stride: tuple[int, ...], n_stored: int, offset: int = 0, hooks: bytes = b")R"
) -> bytes:
    sizes, steps = (together(*map(number, values)) for values in (shape, stride))
    return (
        REBUILD + together(storage(n_stored), number(offset), sizes, steps, b"\x89", ORDERED + hooks) + b"R"
    )


def dictionary(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


STRIDE_0 = tensor((2**25, 2), (0, 0), 1)
DOUBLED = b")" + b"q\0h\0\x86" * 60
HOSTILE: dict[str, bytes] = {
    "a tensor iterated over without an end": dictionary(state=ORDERED + b"(" + STRIDE_0 + b"tR"),
    "a key of a deep tuple": b"}N" + b"\x85" * 900_000 + b"Ns",
    "a key of 2^60 tuples": b"}" + DOUBLED + b"Ns",
    "a value of 2^60 tuples": b"}" + text("k") + DOUBLED + b"s",
    "an OrderedDict without its methods": ORDERED + b")R" + dictionary(keys=b"N") + b"b",
    "metadata without its methods": dictionary(
        sae_state_dict=b"}", mi_crow_metadata=ORDERED + b")R" + dictionary(get=b"N") + b"b"
    ),
    "a dictionary in itself": b"}q\0" + text("k") + b"h\0s",
    "deep dictionaries": b"}" + (text("k") + b"}") * 3000 + b"s" * 3000,
    "a list": dictionary(k=b"]"),
    "a number for a key": b"}" + number(1) + b"Ns",
    "a tensor for a key": b"}" + tensor((1,), (1,), 1) + b"Ns",
    "something called that is no class": dictionary(k=text("len") + b")R"),
    "a tensor with hooks": dictionary(k=tensor((1,), (1,), 1, hooks=b")R" + text("k") + b"Ns")),
    "a negative size": dictionary(k=tensor((-1,), (1,), 1)),
    "a size beyond all memory": dictionary(k=tensor((2**62,), (1,), 2**62)),
    "half a million steps": b"}" + b"q\0" * 450_000,
    "a string with odd escapes": b"}S'\\q'\nNs",
    "a name with odd escapes": b"c\\q\n\\q\n",
    "an opcode that there is not": b"\xff",
    "nothing": b"",
    "a text that ends early": b"X\xff\xff\xff\x7f",
    "an empty stack": b"s",
    "a mark that was not set": b"}u",
    "half an item": b"}(" + text("k") + b"u",
    "what is under a mark": b"}" + text("k") + b"(Ns",
    "two results": b"}}",
    "a name for a result": ORDERED,
    "another storage": dictionary(k=storage(1, "OrderedDict")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_pickle_that_describes_no_sae_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(PROTO + HOSTILE[what] + b".")
    # In a process of its own with little memory and time: a pickle that gets through takes that alone.
    program = """
import pathlib, resource, sys
from gql_server.formats.sae_sources.pickles import read_pickle
from gql_server.formats.sae_sources.refusing import NotRepresentable
content = pathlib.Path(sys.argv[1]).read_bytes()
for kind, most in ((resource.RLIMIT_CPU, 20), (resource.RLIMIT_DATA, 512 * 1024 * 1024)):
    resource.setrlimit(kind, (most, most))
try:
    read_pickle(content)
except NotRepresentable as error:
    print(error.reason)
"""
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "The checkpoint " in run.stdout


def nested(depth: int) -> Any:
    return {"k": nested(depth - 1)} if depth > 1 else {}


def test_dictionaries_may_lie_in_one_another_but_not_deeply(tmp_path: Path) -> None:
    torch.save(nested(MAX_DEPTH), tmp_path / "flat.pt")
    with opened(tmp_path / "flat.pt") as file:
        assert file.content == nested(MAX_DEPTH)
    torch.save(nested(MAX_DEPTH + 1), tmp_path / "deep.pt")
    with pytest.raises(TaskError, match="holds more than tensors"), opened(tmp_path / "deep.pt"):
        pass


@pytest.mark.parametrize(
    ("shape", "stride", "n_stored", "offset"),
    [
        ((2, 3), (3, 1), 5, 0),
        ((2, 3), (1, 2), 5, 0),
        ((2, 3), (1, 3), 6, 0),
        ((2, 3, 4), (1, 2, 6), 24, 0),
        ((3,), (1,), 4, 2),
        ((3,), (0,), 1, 0),
        ((0,), (1,), 1, 0),
    ],
)
def test_a_tensor_that_is_no_plain_part_of_its_storage_is_refused(
    shape: tuple[int, ...], stride: tuple[int, ...], n_stored: int, offset: int
) -> None:
    with pytest.raises(NotRepresentable, match="do not lie in its file one after another"):
        read_pickle(PROTO + dictionary(k=tensor(shape, stride, n_stored, offset)) + b".")


def test_a_tensor_is_described_but_not_made() -> None:
    content = PROTO + dictionary(k=tensor((2**20, 2**20), (2**20, 1), 2**40)) + b"."
    assert read_pickle(content) == {"k": StoredTensor("float32", (2**20, 2**20), "0", 0, 2**40)}


def test_everything_that_torch_saves_of_plain_values_and_tensors_comes_back(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    part = whole[1:3]
    # As dictionary_learning makes encoders: the clone of a transpose keeps the order of the original.
    state = OrderedDict(
        weight=whole,
        part=part,
        bias=torch.tensor(-0.5),
        one=whole.new_zeros(1, 5)[:, 2:3],
        transposed=whole.T.clone(),
        parameter=torch.nn.Parameter(whole[:2] + 1),
    )
    content = {"state": state, "k": None, "n": 2**40, "x": 0.1, "on": True, "off": False, "text": "ä" * 300}
    torch.save(content, tmp_path / "saved.pt")
    with opened(tmp_path / "saved.pt") as file:
        tensors: dict[str, Tensor] = {key: file.tensor(value) for key, value in file.content["state"].items()}
        assert {**file.content, "state": None} == {**content, "state": None}
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[key], state[key]) for key in state)


@pytest.mark.parametrize("name", CLASSES)
def test_a_classs_checkpoint_is_read_bit_by_bit_as_torch_reads_it(name: str, tmp_path: Path) -> None:
    make(name).save("theirs", tmp_path)
    theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)
    with opened(tmp_path / "theirs.pt") as file:
        assert_same(file, file.content, theirs)


def assert_same(file: Any, ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(file, ours[key], value)
    elif isinstance(theirs, Tensor):
        read = file.tensor(ours)
        assert read.dtype == theirs.dtype and torch.equal(read.view(torch.int32), theirs.view(torch.int32))
    else:
        assert type(ours) is type(theirs) and ours == theirs


def test_no_changed_pickle_raises_anything_but_a_refusal(tmp_path: Path) -> None:
    make("TopKSae").save("theirs", tmp_path)
    good = zipfile.ZipFile(tmp_path / "theirs.pt").read("theirs/data.pkl")
    choose = random.Random(0)
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    refused = 0
    for _ in range(3000):
        changed = bytearray(good)
        for _ in range(choose.randint(1, 4)):
            changed[choose.randrange(len(changed))] = choose.choice(
                [choose.randrange(256), choose.choice(codes)]
            )
        try:
            read_pickle(bytes(changed))
        except NotRepresentable:
            refused += 1
    assert refused > 1500


# ------------------------------------------------------------------------------------ the file around it


def packed(path: Path, content: bytes, records: dict[str, bytes], byteorder: bytes = b"little") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("theirs/data.pkl", PROTO + content + b".")
        archive.writestr("theirs/byteorder", byteorder)
        for name, data in records.items():
            archive.writestr(f"theirs/data/{name}", data)
    return path


@pytest.mark.parametrize("records", [{}, {"0": b"\0" * 12}, {"0": b"\0" * 20}, {"1": b"\0" * 16}])
def test_a_tensor_whose_data_is_not_as_long_as_it_says_is_refused(
    records: dict[str, bytes], tmp_path: Path
) -> None:
    path = packed(tmp_path / "theirs.pt", dictionary(k=tensor((2, 2), (2, 1), 4)), records)
    with opened(path) as file, pytest.raises(TaskError, match="not as long as it is said to be"):
        file.tensor(file.content["k"])


def test_numbers_of_another_byte_order_are_refused(tmp_path: Path) -> None:
    other = b"big" if sys.byteorder == "little" else b"little"
    path = packed(tmp_path / "theirs.pt", b"}", {}, other)
    with pytest.raises(TaskError, match="byte order"), opened(path):
        pass


def test_a_list_of_more_entries_than_a_checkpoint_has_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(25_000):
            archive.writestr(f"theirs/data/{number}", b"")
    with pytest.raises(TaskError, match="no checkpoint as PyTorch"), opened(path):
        pass


def test_entries_that_lie_over_one_another_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "theirs.pt", b"}", {"0": b"\0" * 100_000})
    with zipfile.ZipFile(path, "a") as archive:
        original = archive.getinfo("theirs/data/0")
        for number in range(1, 50):
            again = zipfile.ZipInfo(f"theirs/data/{number}")
            again.header_offset, again.CRC = original.header_offset, original.CRC
            again.file_size = again.compress_size = original.file_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive.writestr("theirs/version", b"3")
    with pytest.raises(TaskError, match="packed in a way"), opened(path):
        pass


def test_a_file_whose_bytes_are_changed_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    good = packed(
        tmp_path / "good.pt", dictionary(k=tensor((2, 2), (2, 1), 4)), {"0": b"\0" * 16}
    ).read_bytes()
    path = tmp_path / "changed.pt"
    choose, refused = random.Random(0), 0
    for _ in range(400):
        changed = bytearray(good)
        for _ in range(choose.randint(1, 3)):
            changed[choose.randrange(len(changed))] = choose.choice([0, 1, 0xFF, choose.randrange(256)])
        path.write_bytes(changed)
        try:
            with opened(path) as file:
                assert file.content is not None
        except TaskError:
            refused += 1
    assert refused > 100
