"""How large a free-text document may be, counted before anything is looked up in the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode, OperationDefinitionNode

from subgraph.requests import VALIDATION_FAILED, RequestRefused

if TYPE_CHECKING:
    from graphql import DocumentNode, SelectionSetNode

MOST_TOKENS: Final = 2_000
DEEPEST: Final = 12
MOST_SELECTIONS: Final = 500
MOST_ALIASES: Final = 30
MOST_DIRECTIVES: Final = 50


class _Count:
    """What a document would select, with its fragments spread out."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._open: set[str] = set()
        self._selected = self._aliases = self._directives = 0

    def selections(self, selected: SelectionSetNode | None, depth: int) -> None:
        """Count these selections, and stop at the first limit that they exceed."""
        if selected is None:
            return
        _refuse(depth > DEEPEST, f"the document is deeper than {DEEPEST} levels; ask in parts")
        for node in selected.selections:
            # Every selection counts, spreads too: fragments that only spread each other double at each step.
            self._selected += 1
            self._directives += len(node.directives or ())
            _refuse(self._selected > MOST_SELECTIONS, f"the document selects more than {MOST_SELECTIONS} fields")
            _refuse(self._directives > MOST_DIRECTIVES, f"the document has more than {MOST_DIRECTIVES} directives")
            if isinstance(node, FieldNode):
                self._field(node, depth)
            elif isinstance(node, InlineFragmentNode):
                self.selections(node.selection_set, depth)
            elif isinstance(node, FragmentSpreadNode):
                self._fragment(node.name.value, depth)

    def _field(self, node: FieldNode, depth: int) -> None:
        self._aliases += node.alias is not None
        _refuse(self._aliases > MOST_ALIASES, f"the document has more than {MOST_ALIASES} aliases; ask in parts")
        self.selections(node.selection_set, depth + 1)

    def _fragment(self, name: str, depth: int) -> None:
        # Validation will name a cycle; here it must only not run for ever.
        if name in self._fragments and name not in self._open:
            self._open.add(name)
            self.selections(self._fragments[name].selection_set, depth)
            self._open.discard(name)


def refuse_excess(document: DocumentNode) -> None:
    """Return when the document is within the limits.

    Raises:
        RequestRefused: it isn't.
    """
    count = _Count(document)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            count.selections(node.selection_set, 1)


def _refuse(exceeded: bool, message: str) -> None:
    if exceeded:
        raise RequestRefused(VALIDATION_FAILED, message)
