"""The pickle of a file that torch.save wrote, read by an interpreter of the few opcodes that one has.

A pickle is a program. Run by an unpickler, even one that calls nothing but what makes tensors, a file of a
few hundred bytes can take all memory (a tensor of stride 0, iterated over), all time (a tuple of doubling
size, hashed) or the process (a tuple so deep that hashing it overflows C's stack). Here nothing is called,
nothing but strings is hashed, tensors stay descriptions, and the number of steps has a limit.
The opcodes are those of Python's ``pickletools``.
"""

import io
import math
import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gql_server.formats.sae_sources.refusing import NotRepresentable

MAX_STEPS = 20_000
"""Limit on the pickle's opcodes; an SAE's checkpoint has some hundreds."""
MAX_DEPTH = 8
"""Limit on nested dictionaries; an SAE's checkpoint has three levels."""
MAX_TUPLE = 8
"""Limit on a tuple's items, and so on a tensor's dimensions; the tuple that describes a tensor has seven."""
_MOST = 2**48
"""Limit on a tensor's sizes and offsets: more than any machine's memory."""
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_STORAGES = {
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch DoubleStorage": "float64",
    "torch IntStorage": "int32",
    "torch LongStorage": "int64",
}
_ORDERED_DICT = "collections OrderedDict"
_REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
_ALLOWED = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *_STORAGES}
"""The only names that a checkpoint's pickle may refer to."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file; its values are in order, by rows or by columns, without gaps."""

    dtype: str
    """Such as float32."""
    shape: tuple[int, ...]
    record: str
    """Name of the record under data/."""
    offset: int
    """The first value's place in the record, in values."""
    n_stored: int
    """Values that the record has."""
    is_transposed: bool = False
    """Whether a matrix is stored column by column, as the clone of a transpose is."""


@dataclass(frozen=True)
class _Name:
    """What GLOBAL refers to."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    record: str
    n_values: int


@dataclass
class _Dictionary:
    """A dictionary that is being filled; it is put into one place only, so that none can hold itself."""

    items: dict[str, Any] = field(default_factory=dict)
    depth: int = 1


def read_pickle(content: bytes) -> Any:
    """Return what a pickle describes: dictionaries by strings of StoredTensors and plain values.

    Raises NotRepresentable where it describes anything else, or more than an SAE has.
    """
    machine = _Machine()
    for place, (name, argument) in enumerate(_steps(content)):
        if place >= MAX_STEPS:
            raise NotRepresentable("The checkpoint describes more than the few tensors of an SAE.")
        machine.do(name, argument)
    return machine.result


def _steps(content: bytes) -> Iterator[tuple[str, Any]]:
    """Give the opcodes with their arguments; of one that is not allowed, no argument is read."""
    stream, name = io.BytesIO(content), ""
    try:
        while name != "STOP":
            code = stream.read(1)
            opcode = _OPCODES.get(code.decode("latin-1"))
            if code and (opcode is None or opcode.name not in _STEPS):
                raise _more_than_tensors()
            if opcode is None:
                raise ValueError("no more opcodes")
            name = opcode.name
            yield name, _argument(opcode, stream)
    except ValueError as error:
        raise NotRepresentable(
            "The checkpoint is damaged: its description of the tensors ends early."
        ) from error


def _argument(opcode: pickletools.OpcodeInfo, stream: io.BytesIO) -> Any:
    if opcode.name == "GLOBAL":  # pickletools warns of odd escapes in it.
        names = (stream.readline().removesuffix(b"\n") for _ in range(2))
        return " ".join(name.decode("ascii", "backslashreplace") for name in names)
    return opcode.arg.reader(stream) if opcode.arg else None


def _more_than_tensors() -> NotRepresentable:
    return NotRepresentable(
        "The checkpoint holds more than tensors and plain values by their names. Nothing of it was run; name"
        " a file that the save() of an SAE has written."
    )


class _Machine:
    """The stack and the memo of Python's pickles."""

    def __init__(self) -> None:
        self.result: Any = None
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """Take one step, one of _STEPS."""
        _STEPS[name](self, argument)

    def push(self, value: Any) -> None:
        """Put a value onto the stack."""
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        """Remember how high the stack is."""
        self._marks.append(len(self._stack))

    def tuple_of(self, count: int | None) -> None:
        """Make a tuple of the last values, or of all since the last mark."""
        members = self._pop_to_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        if len(members) > MAX_TUPLE or not all(_fits_tuple(member) for member in members):
            raise _more_than_tensors()
        self.push(tuple(members))

    def dictionary(self, _: Any) -> None:
        """Begin a dictionary."""
        self.push(_Dictionary())

    def set_item(self, _: Any) -> None:
        """Put the last value into the dictionary below it, by the key between them."""
        value, key = self._pop(), self._pop()
        _put(self._top(), key, value)

    def set_items(self, _: Any) -> None:
        """Put all keys and values since the last mark into the dictionary below them."""
        found = self._pop_to_mark()
        if len(found) % 2:
            raise _more_than_tensors()
        for key, value in zip(found[::2], found[1::2], strict=True):
            _put(self._top(), key, value)

    def remember(self, place: int) -> None:
        """Note the last value for recall."""
        self._memo[place] = self._top()

    def recall(self, place: int) -> None:
        """Put a value onto the stack again."""
        value = self._memo.get(place)
        if value is None or isinstance(value, _Dictionary):
            raise _more_than_tensors()
        self.push(value)

    def refer(self, name: str) -> None:
        """Put a name onto the stack, of the few that tensors need."""
        if name not in _ALLOWED:
            raise NotRepresentable(
                f"The checkpoint holds more than tensors: it refers to {name[:80]!a}. Nothing of it was run;"
                " name a file that the save() of an SAE has written."
            )
        self.push(_Name(name))

    def storage(self, _: Any) -> None:
        """Make what the last tuple says of a record."""
        match self._pop():
            case ("storage", _Name(kind), str(record), str(), int(n_values)) if kind in _STORAGES:
                self.push(_Storage(_STORAGES[kind], record, _size(n_values)))
            case _:
                raise _more_than_tensors()

    def reduce(self, _: Any) -> None:
        """Make what OrderedDict or torch would make of the last tuple."""
        arguments, what = self._pop(), self._pop()
        if what == _Name(_ORDERED_DICT) and arguments == ():
            self.push(_Dictionary())
        elif what == _Name(_REBUILD_TENSOR):
            self.push(_tensor(arguments))
        elif what == _Name(_REBUILD_PARAMETER):
            self.push(_parameter(arguments))
        else:
            raise _more_than_tensors()

    def build(self, _: Any) -> None:
        """Leave out what torch notes beside a dictionary of tensors: the versions of its modules."""
        state = self._pop()
        if (
            not isinstance(self._top(), _Dictionary)
            or not isinstance(state, _Dictionary)
            or state.items.keys() != {"_metadata"}
        ):
            raise _more_than_tensors()

    def stop(self, _: Any) -> None:
        """Take the last value for the result."""
        value = self._pop()
        if self._stack or isinstance(value, _Name | _Storage | tuple):
            raise _more_than_tensors()
        self.result = value.items if isinstance(value, _Dictionary) else value

    def pass_over(self, _: Any) -> None:
        """Do nothing, as for the number of the protocol."""

    def _floor(self) -> int:
        return self._marks[-1] if self._marks else 0

    def _pop(self) -> Any:
        if len(self._stack) <= self._floor():
            raise _more_than_tensors()
        return self._stack.pop()

    def _top(self) -> Any:
        if len(self._stack) <= self._floor():
            raise _more_than_tensors()
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise _more_than_tensors()
        mark = self._marks.pop()
        found = self._stack[mark:]
        del self._stack[mark:]
        return found


_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.pass_over,
    "MARK": _Machine.mark,
    "EMPTY_DICT": _Machine.dictionary,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of(0),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BINUNICODE": _Machine.push,
    "BININT": _Machine.push,
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "LONG1": _Machine.push,
    "BINFLOAT": _Machine.push,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.refer,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "STOP": _Machine.stop,
}
"""What torch.save's pickles are made of."""


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _fits_tuple(member: Any) -> bool:
    """Whether a tuple may have this: nothing deeper than a tensor's sizes among what describes it."""
    if isinstance(member, tuple):
        return all(isinstance(inner, int) for inner in member)
    return _is_plain(member) or isinstance(member, _Name | _Storage | _Dictionary | StoredTensor)


def _put(target: Any, key: Any, value: Any) -> None:
    if not isinstance(target, _Dictionary) or not isinstance(key, str):
        raise _more_than_tensors()
    if isinstance(value, _Dictionary):
        target.depth = max(target.depth, value.depth + 1)
        if target.depth > MAX_DEPTH:
            raise _more_than_tensors()
        target.items[key] = value.items
    elif isinstance(value, StoredTensor) or _is_plain(value):
        target.items[key] = value
    else:
        raise _more_than_tensors()


def _tensor(arguments: Any) -> StoredTensor:
    match arguments:
        case (_Storage() as storage, offset, tuple(shape), tuple(stride), bool(), _Dictionary() as hooks):
            if hooks.items:
                raise _more_than_tensors()
        case _:
            raise _more_than_tensors()
    shape = tuple(_size(size) for size in shape)
    row_by_row, column_by_column = _strides(shape), _strides(shape[::-1])[::-1]
    n_values = math.prod(shape)
    is_transposed = len(shape) == 2 and not _lies(stride, row_by_row, shape)
    fits = _lies(stride, column_by_column if is_transposed else row_by_row, shape)
    if not fits or n_values == 0 or _size(offset) + n_values > storage.n_values:
        raise NotRepresentable(
            "The checkpoint has a tensor whose values do not lie in its file one after another."
        )
    return StoredTensor(storage.dtype, shape, storage.record, offset, storage.n_values, is_transposed)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor whose last dimension changes fastest."""
    return tuple(math.prod(shape[place + 1 :]) for place in range(len(shape)))


def _lies(stride: tuple[Any, ...], wanted: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(stride) == len(shape) and all(
        found == step for found, step, size in zip(stride, wanted, shape, strict=True) if size != 1
    )


def _parameter(arguments: Any) -> StoredTensor:
    match arguments:
        case (StoredTensor() as tensor, bool(), _Dictionary(items={})) if not arguments[2].items:
            return tensor
    raise _more_than_tensors()


def _size(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= _MOST:
        raise NotRepresentable(
            "The checkpoint has a tensor whose size or place is not one that a file can have."
        )
    return value
