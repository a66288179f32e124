"""Documents that may be executed: the persisted operations and, for triage, free text within limits."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)

from subgraph.limits import MOST_TOKENS, refuse_excess
from subgraph.requests import (
    ID_AND_BODY,
    ID_REQUIRED,
    NOT_IN_LIST,
    OPERATION_UNKNOWN,
    PARSE_FAILED,
    VALIDATION_FAILED,
    Asked,
    RequestRefused,
    malformed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

OPERATIONS: Final = Path(__file__).parent / "operations"
KEPT_DOCUMENTS: Final = 256
_LONGEST_ECHO: Final = 80
_MOST_ERRORS: Final = 5
_LEGACY: Final = "Unknown query"


@dataclass(frozen=True, slots=True)
class Document:
    """A document that parses and is valid. `text` is exactly what its hash is of."""

    text: str
    ast: DocumentNode

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """The operation of that name, or the only one.

        Raises:
            RequestRefused: there is none, or more than one to choose from.
        """
        found = get_operation_ast(self.ast, name)
        if found is None:
            message = (
                "the document has several operations; give operationName"
                if name is None
                else f"the document has no operation {name[:_LONGEST_ECHO]!r}"
            )
            raise RequestRefused(OPERATION_UNKNOWN, message)
        return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """The document to execute and which of its operations."""

    document: Document
    operation: OperationDefinitionNode

    @property
    def kind(self) -> OperationType:
        """Query, mutation or subscription."""
        return self.operation.operation


def sha256_of(text: str) -> str:
    """The hash by which a document is asked for: of its exact UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Documents:
    """Which document a request means: a persisted one by id or hash, or its own text while that is allowed."""

    def __init__(self, schema: GraphQLSchema, files: Iterable[Path], *, introspection: bool) -> None:
        self._schema = schema
        self._introspection = introspection
        self._free: OrderedDict[str, Document] = OrderedDict()
        self._persisted: dict[str, Document] = {}
        self.ids: list[str] = []
        for path in sorted(files):
            text = path.read_bytes().decode()
            document = Document(text, self._checked(text, free=False))
            self.ids.append(path.stem)
            self._persisted[path.stem] = self._persisted[sha256_of(text)] = document

    def choose(self, asked: Asked, *, free_text: bool) -> Chosen:
        """The document and operation that the request means.

        Raises:
            RequestRefused: there is none, or the request may not ask for it.
        """
        if asked.ids:
            document = self._by_id(asked, free_text=free_text)
            # A persisted document has one operation; what the client calls it does not matter.
            return Chosen(document, document.operation(None))
        if asked.query is None:
            message = "the request names no operation; give id (or documentId, or extensions.persistedQuery.sha256Hash)"
            raise malformed(message, legacy=_LEGACY)
        if not free_text:
            message = "operations are asked for by id; free text is refused (`coherence switch free_text on` allows it)"
            raise RequestRefused(ID_REQUIRED, message, legacy=_LEGACY)
        document = self._free_text(asked.query)
        return Chosen(document, document.operation(asked.operation_name))

    def _by_id(self, asked: Asked, *, free_text: bool) -> Document:
        found = {each: self._persisted.get(each) for each in asked.ids}
        if free_text and asked.query is not None and found == {sha256_of(asked.query): None}:
            return self._free_text(asked.query)
        unknown = next((each for each, document in found.items() if document is None), None)
        if unknown is not None:
            message = f"no persisted operation has the id {unknown[:_LONGEST_ECHO]!r}; ask for one that is registered"
            raise RequestRefused(NOT_IN_LIST, message, legacy=_LEGACY)
        documents = {document.text: document for document in found.values() if document}
        if len(documents) > 1:
            message = "the request names two different persisted operations; name one"
            raise RequestRefused(ID_AND_BODY, message, legacy=_LEGACY)
        (document,) = documents.values()
        if asked.query is not None and asked.query != document.text:
            message = "the request has an id and another text; send the id alone"
            raise RequestRefused(ID_AND_BODY, message, legacy=_LEGACY)
        return document

    def _free_text(self, text: str) -> Document:
        key = sha256_of(text)
        document = self._free.get(key)
        if document is None:
            document = self._free[key] = Document(text, self._checked(text, free=True))
            if len(self._free) > KEPT_DOCUMENTS:
                self._free.popitem(last=False)
        else:
            self._free.move_to_end(key)
        return document

    def _checked(self, text: str, *, free: bool) -> DocumentNode:
        try:
            ast = parse(text, max_tokens=MOST_TOKENS)
        except GraphQLError as error:
            raise _refused(PARSE_FAILED, [error]) from None
        except RecursionError:
            message = "the document is nested too deeply"
            raise RequestRefused(PARSE_FAILED, message) from None
        # Before validation, whose cost grows faster than the document.
        refuse_excess(ast)
        rules = [*specified_rules, *([NoSchemaIntrospectionCustomRule] if free and not self._introspection else [])]
        errors = validate(self._schema, ast, rules, max_errors=_MOST_ERRORS, hide_suggestions=not self._introspection)
        if errors:
            raise _refused(VALIDATION_FAILED, errors)
        return ast


def _refused(code: str, errors: list[GraphQLError]) -> RequestRefused:
    shown = tuple({**error.formatted, "extensions": {"code": code}} for error in errors[:_MOST_ERRORS])
    return RequestRefused(code, errors[0].message, errors=shown)
