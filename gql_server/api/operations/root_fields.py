"""Which fields of Query, Mutation or Subscription an operation asks for."""

from graphql import DocumentNode, get_operation_ast

from gql_server.api.operations.documents import field_names, fragments_of

MAX_FIELDS = 10
MAX_NAME = 40


def root_fields(document: DocumentNode | None, operation_name: str | None) -> list[str]:
    """Return the names, each once and without alias, of a document that may not have been validated."""
    operation = get_operation_ast(document, operation_name) if document else None
    if document is None or operation is None:
        return []
    names = dict.fromkeys(field_names(operation.selection_set, fragments_of(document)))
    return [name[:MAX_NAME] for name in list(names)[:MAX_FIELDS]]
