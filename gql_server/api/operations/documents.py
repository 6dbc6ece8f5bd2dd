"""GraphQL documents and their sizes, measured before anything more expensive is done with them."""

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSyntaxError,
    InlineFragmentNode,
    Lexer,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    Source,
    SourceLocation,
    TokenKind,
    parse,
)

MAX_COUNTED = 20_000
"""Counting overlaps stops at so many, or after so many fields."""
DEEPEST = 100
"""The depth at which counting overlaps stops; fragments in a circle have no end."""
SHARED_DOCUMENTS = 128
MAX_SHARED_CHARACTERS = 10_000

_INTROSPECTION = {"__schema", "__type"}
_NEWLINE = re.compile(r"\r\n|[\n\r]")
_OPENING = (TokenKind.BRACE_L, TokenKind.PAREN_L, TokenKind.BRACKET_L)
_CLOSING = (TokenKind.BRACE_R, TokenKind.PAREN_R, TokenKind.BRACKET_R)


@dataclass(frozen=True)
class TextSize:
    """The size of a document's text, up to the first mistake in it."""

    tokens: int
    nesting: int
    """The deepest nesting of brackets."""


@dataclass(frozen=True)
class Shape:
    """The size of a parsed document."""

    depth: int
    """The deepest nesting of fields, through fragments as well."""
    aliases: int
    """The number of aliases and of repeated fields."""
    overlaps: int
    """Pairs of fields for one place of the answer, which validation compares; counted up to a limit."""


@dataclass(eq=False)
class Document:
    """A document that has been parsed."""

    node: DocumentNode
    shape: Shape
    only_introspects: bool
    """Whether it asks for nothing but the schema."""
    size: TextSize | None = None
    """Of its text, where the document is kept."""
    found_valid: set[bool] = field(default_factory=set)
    """Whether it was found to have no mistakes: with introspection allowed (True), or without."""


def text_size(text: str) -> TextSize:
    """Return the size of a document's text; one that is not kept takes some 2 µs a token."""
    known = _shared.get(text)
    return known.size if known is not None and known.size is not None else _measure(text)


def _measure(text: str) -> TextSize:
    lexer = Lexer(Source(text))
    tokens = nesting = deepest = 0
    try:
        while (kind := lexer.advance().kind) is not TokenKind.EOF:
            tokens += 1
            nesting += (kind in _OPENING) - (kind in _CLOSING)
            deepest = max(deepest, nesting)
    except GraphQLSyntaxError:
        pass  # The parser finds it again, and says what is wrong.
    return TextSize(tokens, deepest)


class IndexedSource(Source):
    """A source with an index of its lines, because each of possibly many errors looks for its line."""

    def __init__(self, body: str) -> None:
        super().__init__(body)
        self._line_starts = [0, *(match.end() for match in _NEWLINE.finditer(body))]

    def get_location(self, position: int) -> SourceLocation:
        """Return the line and the column of a place, both counted from 1."""
        line = bisect_right(self._line_starts, position)
        return SourceLocation(line, position - self._line_starts[line - 1] + 1)


def read(text: str) -> Document:
    """Return a text's document; that of a short text is kept and shared.

    Pages send the same texts again and again, which takes milliseconds to parse and validate; and each of the
    subscriptions to the same holds its document to its end. Raises GraphQLSyntaxError.
    """
    if text in _shared:
        _shared.move_to_end(text)
        return _shared[text]
    node = parse(IndexedSource(text))
    document = Document(node, shape(node), only_introspects(node))
    if len(text) <= MAX_SHARED_CHARACTERS:
        document.size = _measure(text)
        _shared[text] = document
        if len(_shared) > SHARED_DOCUMENTS:
            _shared.popitem(last=False)
    return document


def is_known(text: str) -> bool:
    """Return whether this text's document is kept and has been validated."""
    return text in _shared and bool(_shared[text].found_valid)


_shared: OrderedDict[str, Document] = OrderedDict()


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """Return a document's fragments by name."""
    return {
        node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
    }


def operations_of(document: DocumentNode) -> list[OperationDefinitionNode]:
    """Return a document's operations."""
    return [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]


def field_names(selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode]) -> Iterator[str]:
    """Give the names of the selected fields; a fragment that is used is taken out, so that circles end."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from field_names(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode) and (fragment := fragments.pop(node.name.value, None)):
            yield from field_names(fragment.selection_set, fragments)


def only_introspects(document: DocumentNode) -> bool:
    """Return whether all operations of a document ask for __schema, __type and __typename alone."""
    fragments = fragments_of(document)
    names = {name for one in operations_of(document) for name in field_names(one.selection_set, fragments)}
    return bool(names & _INTROSPECTION) and names <= {*_INTROSPECTION, "__typename"}


def shape(document: DocumentNode) -> Shape:
    """Return the size of a parsed document."""
    fragments = {name: fragment.selection_set for name, fragment in fragments_of(document).items()}
    operations = [operation.selection_set for operation in operations_of(document)]
    depths: dict[str, int] = {}
    overlaps = _Overlaps(fragments)
    for one in operations:
        overlaps.look_at([one])
    return Shape(
        overlaps=overlaps.pairs,
        depth=max((_depth(one, fragments, depths) for one in operations), default=0),
        aliases=sum(_aliases(one) for one in [*operations, *fragments.values()]),
    )


class _Overlaps:
    """Counts pairs of overlapping fields, up to a limit."""

    def __init__(self, fragments: dict[str, SelectionSetNode]) -> None:
        self._fragments = fragments
        self._looks = 0
        self.pairs = 0

    def look_at(self, selections: list[SelectionSetNode], depth: int = 0) -> None:
        """Count the pairs in selections that the answer merges, and below them."""
        if self.pairs > MAX_COUNTED or depth > DEEPEST:
            return
        merged: dict[str, list[FieldNode]] = {}
        self._collect(selections, merged, set())
        for fields in merged.values():
            self._looks += len(fields)
            self.pairs += len(fields) * (len(fields) - 1) // 2
            if self._looks > MAX_COUNTED:  # Fragments in fragments stand in more places than can be visited.
                self.pairs = MAX_COUNTED + 1
            below = [field.selection_set for field in fields if field.selection_set]
            if below:
                self.look_at(below, depth + 1)

    def _collect(
        self, selections: Iterable[SelectionSetNode], merged: dict[str, list[FieldNode]], spread: set[str]
    ) -> None:
        for selection in selections:
            for node in selection.selections:
                if isinstance(node, FieldNode):
                    merged.setdefault((node.alias or node.name).value, []).append(node)
                elif isinstance(node, InlineFragmentNode):
                    self._collect([node.selection_set], merged, spread)
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                    spread.add(node.name.value)
                    if fragment := self._fragments.get(node.name.value):
                        self._collect([fragment], merged, spread)


def _depth(
    selections: SelectionSetNode, fragments: dict[str, SelectionSetNode], depths: dict[str, int]
) -> int:
    """Return the depth of a selection; ``depths`` has those of the fragments that are known."""
    deepest = 0
    for node in selections.selections:
        match node:
            case FieldNode(selection_set=None):
                depth = 1
            case FieldNode(selection_set=SelectionSetNode() as inner):
                depth = 1 + _depth(inner, fragments, depths)
            case InlineFragmentNode():
                depth = _depth(node.selection_set, fragments, depths)
            case FragmentSpreadNode():
                depth = _fragment_depth(node.name.value, fragments, depths)
            case _:
                depth = 0
        deepest = max(deepest, depth)
    return deepest


def _fragment_depth(name: str, fragments: dict[str, SelectionSetNode], depths: dict[str, int]) -> int:
    if name not in depths:
        depths[name] = 0  # What a circle comes back to; validation refuses it.
        depths[name] = _depth(fragments[name], fragments, depths) if name in fragments else 0
    return depths[name]


def _aliases(selections: SelectionSetNode) -> int:
    """Return the aliases and repetitions under a selection, but not in the fragments that it spreads."""
    seen: set[tuple[str, str]] = set()
    count = 0
    for type_name, node in _fields(selections.selections, ""):
        name = (node.alias or node.name).value
        count += node.alias is not None or (type_name, name) in seen
        seen.add((type_name, name))
        if node.selection_set:
            count += _aliases(node.selection_set)
    return count


def _fields(selections: tuple[SelectionNode, ...], type_name: str) -> Iterator[tuple[str, FieldNode]]:
    """Give the fields of a selection and of its inline fragments, each with the type that it is asked of."""
    for node in selections:
        if isinstance(node, FieldNode):
            yield type_name, node
        elif isinstance(node, InlineFragmentNode):
            narrowed = node.type_condition.name.value if node.type_condition else type_name
            yield from _fields(node.selection_set.selections, narrowed)
