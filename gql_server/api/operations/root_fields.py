"""Which fields of Query, Mutation or Subscription an operation asks for."""

from collections.abc import Iterator

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
    get_operation_ast,
)

MAX_FIELDS = 10
MAX_NAME = 40


def root_fields(document: DocumentNode | None, operation_name: str | None) -> list[str]:
    """Return the names, each once and without alias, of a document that may not have been validated."""
    operation = get_operation_ast(document, operation_name) if document else None
    if document is None or operation is None:
        return []
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    names = dict.fromkeys(_fields(operation.selection_set, fragments))
    return [name[:MAX_NAME] for name in list(names)[:MAX_FIELDS]]


def _fields(selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode]) -> Iterator[str]:
    """Give the fields; a fragment is taken out when it is used, so that no circle is gone round."""
    for selection in selections.selections:
        match selection:
            case FieldNode():
                yield selection.name.value
            case InlineFragmentNode():
                yield from _fields(selection.selection_set, fragments)
            case FragmentSpreadNode():
                fragment = fragments.pop(selection.name.value, None)
                if fragment is not None:
                    yield from _fields(fragment.selection_set, fragments)
