"""What a command says about the signals it sends: tags, backfill, what they may replace, or that none is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence.v1.ingest_pb2 import Durability, OnConflict, PublishSignalsResponse
    from coherence.v1.signal_pb2 import Signal
    from coherence.v1.signal_pb2 import Tags as TagsMessage
    from coherence_grpc.client import Client
    from coherence_grpc.client.model import Purpose, Retention

PURPOSES: Final = ("benchmarking", "demo")
RETENTIONS: Final = ("short-30d", "standard-365d", "long-1825d", "unlimited")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Sending:
    """How signals are to be stored; None leaves a tag to the server's default.

    `replace`: one whose key is stored with another payload takes its place. What an import is called by its server is
    made of this value's words, so that one which replaces nothing goes on as it was begun.
    """

    purpose: Purpose | None = None
    retention: Retention | None = None
    backfill: bool = False
    dry_run: bool = False
    replace: bool = field(default=False, repr=False)

    def on_conflict(self) -> OnConflict.ValueType:
        """What becomes of a signal whose key is stored with another payload."""
        from coherence.v1.ingest_pb2 import ON_CONFLICT_REJECT, ON_CONFLICT_REPLACE

        return ON_CONFLICT_REPLACE if self.replace else ON_CONFLICT_REJECT

    def tags(self) -> TagsMessage:
        """The tags as a message."""
        from coherence_grpc.client.messages import tags_message
        from coherence_grpc.client.model import Tags

        return tags_message(Tags(self.purpose, self.retention))

    async def publish(
        self, client: Client, tenant_id: str, signals: Sequence[Signal], request_id: str, *, scored: bool = False
    ) -> PublishSignalsResponse:
        """Send signals of one tenant in one request; `scored`: the answer is to have a score that has seen them."""
        from coherence.v1.ingest_pb2 import PublishSignalsRequest

        return await client.ingest.PublishSignals(
            PublishSignalsRequest(
                tenant_id=tenant_id,
                signals=signals,
                request_id=request_id,
                tags=self.tags(),
                backfill=self.backfill,
                validate_only=self.dry_run,
                on_conflict=self.on_conflict(),
                durability=durability(scored=scored),
            )
        )


def durability(*, scored: bool) -> Durability.ValueType:
    """When the server is to answer."""
    from coherence.v1.ingest_pb2 import DURABILITY_SCORED, DURABILITY_STORED

    return DURABILITY_SCORED if scored else DURABILITY_STORED


def sending_options(command: Callable[..., _Value]) -> Callable[..., _Value]:
    """Adds the options, and hands them to the command as `sending`."""

    @wraps(command)
    def gathered(
        *args: Any,  # noqa: ANN401 - whatever click passes on
        purpose: Purpose | None,
        retention: Retention | None,
        backfill: bool,
        dry_run: bool,
        replace: bool,
        **kwargs: Any,  # noqa: ANN401 - whatever click passes on
    ) -> _Value:
        return command(*args, sending=Sending(purpose, retention, backfill, dry_run, replace), **kwargs)

    for option in reversed(
        (
            click.option(
                "--purpose", type=click.Choice(PURPOSES), help="What they may be used for.  [default: benchmarking]"
            ),
            click.option(
                "--retention",
                type=click.Choice(RETENTIONS),
                help="How long they are kept, from their ts.  [default: standard-365d]",
            ),
            click.option("--backfill", is_flag=True, help="Historical data: events say so, and nobody alerts."),
            click.option("--replace", is_flag=True, help="Put them in the place of what is stored under their keys."),
            click.option("--dry-run", is_flag=True, help="Check only: nothing is stored."),
        )
    ):
        gathered = option(gathered)
    return gathered
