"""Operations executed, and their errors put into words: the one place that knows what an error looks like."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from graphql import ExecutionResult, GraphQLError, execute, subscribe
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from coherence_grpc.telemetry import new_error_id
from subgraph.field_paths import camel, graphql_path
from subgraph.following import Ended
from subgraph.refusals import GRAPHQL_CODE, INTERNAL, MASKED, Refused, renamed
from subgraph.schema import build_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql import Executor

    from coherence_grpc.client import Refusal
    from subgraph.documents import Chosen
    from subgraph.operation import Operation

BAD_USER_INPUT: Final = "BAD_USER_INPUT"
_MOST_COERCION_ERRORS: Final = 5
# graphql-core's words for a variable that it can't coerce.
_VARIABLE: Final = re.compile(
    r"Variable '\$(?P<name>\w+)' has invalid value(?: at (?P<part>[^:]*))?: (?P<problem>.*)", flags=re.DOTALL
)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one operation, or one event of a subscription. `executed` is false when a variable was refused."""

    payload: dict[str, object]
    executed: bool


class _Executor(StrawberryGraphQLCoreExecutionContext):
    """Remembers what an event selected no longer than the event."""

    def build_per_event_executor(self, payload: Any) -> Executor[Any]:  # noqa: ANN401 - as in graphql-core
        """The executor of one event of a subscription."""
        executor = super().build_per_event_executor(payload)
        # graphql-core shares this memo over all events, under keys that no other event has: 2.6 kB each, for good.
        executor._relevant_sub_fields = {}  # noqa: SLF001 - there is no other way to it
        return executor


class Engine:
    """Executes documents that are known to be valid."""

    def __init__(self) -> None:
        self._schema = build_schema()

    async def execute(self, chosen: Chosen, variables: dict[str, Any], operation: Operation) -> Answer:
        """The answer to a query or a mutation."""
        outcome = execute(
            self._schema.core,
            chosen.document.ast,
            context_value=operation,
            variable_values=variables,
            operation_name=_name(chosen),
            max_coercion_errors=_MOST_COERCION_ERRORS,
            executor_class=self._schema.execution_context_class,
            hide_suggestions=True,
        )
        return _answer(await outcome if inspect.isawaitable(outcome) else outcome, operation)

    async def subscribe(
        self, chosen: Chosen, variables: dict[str, Any], operation: Operation
    ) -> AsyncGenerator[Answer, None]:
        """The answers of a subscription; when it ends otherwise than by the client, the last one says why."""
        outcome = subscribe(
            self._schema.core,
            chosen.document.ast,
            context_value=operation,
            variable_values=variables,
            operation_name=_name(chosen),
            max_coercion_errors=_MOST_COERCION_ERRORS,
            executor_class=_Executor,
            hide_suggestions=True,
        )
        events = await outcome if inspect.isawaitable(outcome) else outcome
        if isinstance(events, ExecutionResult):
            yield _answer(events, operation)
            return
        try:
            async for event in events:
                yield _answer(event, operation)
        except Exception as error:  # noqa: BLE001 - whatever ended the source is the subscription's last answer
            yield Answer({"errors": [_worded(error)]}, executed=False)
        finally:
            # Closing it closes the stream behind it; an async iterator as such has no such method.
            if isinstance(events, AsyncGenerator):
                await events.aclose()


def _name(chosen: Chosen) -> str | None:
    return chosen.operation.name.value if chosen.operation.name else None


def _answer(result: ExecutionResult, operation: Operation) -> Answer:
    errors = result.errors or ()
    executed = result.data is not None or any(error.path is not None for error in errors)
    payload: dict[str, object] = {}
    if errors:
        payload["errors"] = [format_error(error) for error in errors]
    if executed:
        payload["data"] = result.data
    if operation.seen or operation.position:
        payload["extensions"] = {"coherence": _seen(operation)}
    return Answer(payload, executed)


def _seen(operation: Operation) -> dict[str, object]:
    """The event's cursor, and the revisions that the answer has seen: one by itself, several by tenant."""
    seen: dict[str, object] = {"cursor": operation.position} if operation.position else {}
    if len(operation.seen) == 1:
        seen["revision"] = next(iter(operation.seen.values()))
    elif operation.seen:
        seen["revisions"] = dict(operation.seen)
    return seen


def format_error(error: GraphQLError) -> dict[str, object]:
    """The error as callers get it."""
    cause = error.original_error
    formatted = _coercion(error.message) if cause is None or isinstance(cause, GraphQLError) else _worded(cause)
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        formatted["path"] = list(error.path)
    return formatted


def _coercion(message: str) -> dict[str, object]:
    """A variable that can't be what the document declares, with the path of the part that is wrong."""
    wrong = _VARIABLE.fullmatch(message)
    if wrong is None:
        return {"message": message, "extensions": {"code": BAD_USER_INPUT}}
    field = {"path": f"{wrong['name']}{wrong['part'] or ''}", "problem": wrong["problem"]}
    return {
        "message": f"{field['path']}: {field['problem']}",
        "extensions": {"code": BAD_USER_INPUT, "fields": [field]},
    }


def _worded(error: Exception) -> dict[str, object]:
    if isinstance(error, Refused):
        refusal = renamed(error.refusal, graphql_path)
        return {"message": refusal.message, "extensions": _extensions(refusal, error)}
    error_id = new_error_id()
    _log.error("operation failed", exc_info=error, extra={"fields": {"error_id": error_id}})
    return {"message": MASKED, "extensions": {"code": INTERNAL, "errorId": error_id}}


def _extensions(refusal: Refusal, error: Refused) -> dict[str, object]:
    extensions: dict[str, object] = {camel(key): value for key, value in refusal.metadata.items()}
    if isinstance(error, Ended):
        extensions["resumeCursor"] = error.resume_cursor
    extensions["code"] = (error.code if isinstance(error, Ended) else "") or GRAPHQL_CODE.get(refusal.code, INTERNAL)
    if refusal.reason:
        extensions["reason"] = refusal.reason
    if refusal.retry_after_s is not None:
        extensions["retryAfterMs"] = round(refusal.retry_after_s * 1000)
    if refusal.fields:
        extensions["fields"] = _fields(refusal)
    return extensions


def _fields(refusal: Refusal) -> Sequence[dict[str, str]]:
    return [{"path": field.path, "problem": field.problem} for field in refusal.fields]
