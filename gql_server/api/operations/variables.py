"""Which variables an event of a subscription is answered by."""

from collections.abc import Iterator, Mapping

from graphql import (
    ConstDirectiveNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)


def used_within_events(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> set[str]:
    """Return the names of the variables that a subscription's selection of each event is made with.

    The arguments of the subscribed field itself say which events come, not how they look.
    """
    return set(_Uses(fragments).of_selections(operation.selection_set, at_root=True))


class _Uses:
    """Goes through a valid document; each fragment once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._seen: set[tuple[str, bool]] = set()

    def of_selections(self, selections: SelectionSetNode | None, at_root: bool) -> Iterator[str]:
        for selection in selections.selections if selections else ():
            yield from _of_directives(selection.directives)
            match selection:
                case FieldNode():
                    if not at_root:
                        for argument in selection.arguments or ():
                            yield from _of_value(argument.value)
                    yield from self.of_selections(selection.selection_set, at_root=False)
                case InlineFragmentNode():
                    yield from self.of_selections(selection.selection_set, at_root)
                case FragmentSpreadNode():
                    yield from self._of_fragment(selection.name.value, at_root)

    def _of_fragment(self, name: str, at_root: bool) -> Iterator[str]:
        if (name, at_root) not in self._seen:
            self._seen.add((name, at_root))
            fragment = self._fragments[name]
            yield from _of_directives(fragment.directives)
            yield from self.of_selections(fragment.selection_set, at_root)


def _of_directives(directives: "tuple[DirectiveNode | ConstDirectiveNode, ...] | None") -> Iterator[str]:
    for directive in directives or ():
        for argument in directive.arguments or ():
            yield from _of_value(argument.value)


def _of_value(value: ValueNode) -> Iterator[str]:
    match value:
        case VariableNode():
            yield value.name.value
        case ListValueNode():
            for item in value.values:
                yield from _of_value(item)
        case ObjectValueNode():
            for member in value.fields:
                yield from _of_value(member.value)
