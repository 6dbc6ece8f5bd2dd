"""Gives a drawn document arguments that could be meant, variables, aliases, directives and fragments."""

import random
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    ConstValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NamedTypeNode,
    NameNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_required_argument,
    parse_type,
)

from tests.fuzz.literals import files_in, literal, without_files
from tests.fuzz.values import FilePart, Values

REFUSAL = "Error"
"""The interface of refusals; their code and message are asked for, so that outcomes can be counted."""


@dataclass
class Dressed:
    """An operation with its variables; ``files`` are those that stand in them, by their places."""

    definitions: list[OperationDefinitionNode | FragmentDefinitionNode] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FilePart] = field(default_factory=dict)

    @property
    def document(self) -> DocumentNode:
        """The operation and its fragments."""
        return DocumentNode(definitions=tuple(self.definitions))


class Dresser:
    """Dresses one document. ``keeps`` leaves the arguments as they were drawn."""

    def __init__(self, schema: GraphQLSchema, dice: random.Random, hostility: float, *, keeps: bool) -> None:
        self._schema = schema
        self._dice = dice
        self._values = Values(dice, hostility)
        self._keeps = keeps
        self._oddity = 0.04 if hostility else 0.02
        self._declared: dict[str, str] = {}
        self._made = Dressed()
        self._counter = 0

    def dress(self, document: DocumentNode) -> Dressed:
        """Return the document's operation, dressed."""
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        root = self._schema.get_root_type(operation.operation)
        assert root is not None
        selections = self._selections(operation.selection_set, root)
        if self._chance(0.1):
            selections = self._with_twin(operation.selection_set, selections, root)
        name = NameNode(value="Drawn") if self._dice.random() < 0.4 else None
        declarations = tuple(self._declaration(name, type_) for name, type_ in self._declared.items())
        dressed = OperationDefinitionNode(
            operation=operation.operation,
            name=name,
            variable_definitions=declarations,
            directives=(),
            selection_set=selections,
        )
        self._made.definitions.insert(0, dressed)
        return self._made

    def _chance(self, share: float) -> bool:
        return self._dice.random() < share

    def _number(self) -> int:
        self._counter += 1
        return self._counter

    def _selections(self, node: SelectionSetNode, parent: GraphQLNamedType) -> SelectionSetNode:
        dressed = [self._selection(one, parent) for one in node.selections]
        if is_abstract_type(parent):
            dressed += self._refusals(parent)
        elif self._chance(self._oddity):
            dressed.append(self._dice.choice(dressed))
        if self._chance(self._oddity / 10):
            dressed.append(_field("unheardOf"))
        made = SelectionSetNode(selections=tuple(dressed))
        return self._moved(made, parent) if self._chance(self._oddity) else made

    def _with_twin(
        self, drawn: SelectionSetNode, dressed: SelectionSetNode, root: GraphQLNamedType
    ) -> SelectionSetNode:
        """Return a selection with its first field once more: what fails in one leaves the other alone."""
        name = NameNode(value=f"a{self._number()}_twin")
        twins = [
            FieldNode(
                name=node.name,
                alias=name,
                arguments=node.arguments,
                directives=node.directives,
                selection_set=node.selection_set,
            )
            for node in self._selections(drawn, root).selections[:1]
            if isinstance(node, FieldNode)
        ]
        return SelectionSetNode(selections=(*dressed.selections, *twins))

    def _refusals(self, parent: GraphQLNamedType) -> list[SelectionNode]:
        asked: list[SelectionNode] = [_field("__typename")] if self._chance(0.8) else []
        refusal = self._schema.type_map[REFUSAL]
        assert isinstance(refusal, GraphQLInterfaceType)
        members = set(self._schema.get_possible_types(parent))  # type: ignore[arg-type]
        if members & set(self._schema.get_implementations(refusal).objects) and self._chance(0.8):
            asked.append(_inline(REFUSAL, (_field("code"), _field("message"))))
        return asked

    def _moved(self, node: SelectionSetNode, parent: GraphQLNamedType) -> SelectionSetNode:
        """Return a spread of a new fragment in a selection's place, or an inline fragment."""
        if self._chance(0.4):
            return SelectionSetNode(selections=(_inline(None, node.selections),))
        name = NameNode(value=f"Part{self._number()}")
        condition = NamedTypeNode(name=NameNode(value=parent.name))
        self._made.definitions.append(
            FragmentDefinitionNode(
                name=name,
                type_condition=condition,
                directives=(),
                selection_set=node,
                variable_definitions=(),
            )
        )
        spread = FragmentSpreadNode(name=name, directives=self._directives())
        return SelectionSetNode(selections=(spread, *([spread] if self._chance(0.1) else [])))

    def _selection(self, node: SelectionNode, parent: GraphQLNamedType) -> SelectionNode:
        if isinstance(node, InlineFragmentNode):
            assert node.type_condition is not None
            name = node.type_condition.name.value
            inner = self._selections(node.selection_set, self._schema.type_map[name])
            return _inline(name, inner.selections, self._directives())
        assert isinstance(node, FieldNode)
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType), parent
        definition = parent.fields[node.name.value]
        inner_set = node.selection_set
        if inner_set is not None:
            inner_set = self._selections(inner_set, get_named_type(definition.type))
        alias = node.alias
        if alias is None and self._chance(self._oddity):
            alias = NameNode(value=f"a{self._number()}_{node.name.value}")
        return FieldNode(
            name=node.name,
            alias=alias,
            arguments=self._arguments(node, definition, f"{parent.name}.{node.name.value}"),
            directives=self._directives(),
            selection_set=inner_set,
        )

    def _directives(self) -> tuple[DirectiveNode, ...]:
        if not self._chance(self._oddity):
            return ()
        name = self._dice.choice((*("skip", "include") * 5, "defer"))
        condition: ValueNode = BooleanValueNode(value=self._chance(0.7))
        if self._chance(0.5):
            condition = self._variable("Boolean!", self._dice.choice((True, False, True, None, "yes")))
        passed = ArgumentNode(name=NameNode(value="if"), value=condition)
        one = DirectiveNode(name=NameNode(value=name), arguments=(passed,))
        return (one, one) if self._chance(0.1) else (one,)

    def _arguments(self, node: FieldNode, definition: GraphQLField, owner: str) -> tuple[ArgumentNode, ...]:
        if self._keeps:
            return tuple(node.arguments or ())
        given = []
        for name, argument in definition.args.items():
            if not is_required_argument(argument) and not self._chance(0.4):
                continue
            if is_required_argument(argument) and self._values.is_hostile() and self._chance(0.2):
                continue
            value = self._values.draw(argument.type, owner, name)
            given.append(
                ArgumentNode(name=NameNode(value=name), value=self._passed(value, str(argument.type)))
            )
        return tuple(given)

    def _passed(self, value: Any, type_: str) -> ValueNode:
        """Return a value as a literal, or the variable that it is put into."""
        return self._variable(type_, value) if files_in(value) or self._chance(0.5) else literal(value)

    def _variable(self, type_: str, value: Any) -> VariableNode:
        name = f"v{self._number()}"
        self._declared[name] = "String" if self._chance(self._oddity / 5) else type_
        for path, file in files_in(value):
            self._made.files[f"variables.{name}{path}"] = file
        self._made.variables[name] = without_files(value)
        return VariableNode(name=NameNode(value=name))

    def _declaration(self, name: str, type_: str) -> VariableDefinitionNode:
        default: ConstValueNode | None = None
        if self._chance(self._oddity):
            default = NullValueNode() if self._chance(0.3) else IntValueNode(value="1")
        return VariableDefinitionNode(
            variable=VariableNode(name=NameNode(value=name)),
            type=parse_type(type_),
            default_value=default,
            directives=(),
        )


def _field(name: str) -> FieldNode:
    return FieldNode(name=NameNode(value=name), arguments=(), directives=())


def _inline(
    name: str | None, selections: tuple[SelectionNode, ...], directives: tuple[DirectiveNode, ...] = ()
) -> InlineFragmentNode:
    condition = NamedTypeNode(name=NameNode(value=name)) if name else None
    return InlineFragmentNode(
        type_condition=condition, directives=directives, selection_set=SelectionSetNode(selections=selections)
    )
