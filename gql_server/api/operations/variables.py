"""The variables that the answer to a subscription's event depends on."""

from collections.abc import Mapping

from graphql import FieldNode, FragmentDefinitionNode, Node, OperationDefinitionNode, VariableNode

ROOT_TYPE = "Subscription"


def used_within_events(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> set[str]:
    """Return the names of the variables that a subscription's selection of each event is made with.

    The arguments of the subscribed field itself say which events come, not how they look.
    """
    used: set[str] = set()
    _add_variables(operation.selection_set, True, used)
    for fragment in fragments.values():
        _add_variables(fragment, fragment.type_condition.name.value == ROOT_TYPE, used)
    return used


def _add_variables(node: object, at_root: bool, found: set[str]) -> None:
    if isinstance(node, tuple):
        for one in node:
            _add_variables(one, at_root, found)
    elif isinstance(node, VariableNode):
        found.add(node.name.value)
    elif isinstance(node, FieldNode) and at_root:
        _add_variables((node.directives, node.selection_set), False, found)
    elif isinstance(node, Node):
        for key in node.keys:
            _add_variables(getattr(node, key), at_root, found)
