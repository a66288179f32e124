"""Publishing: every way in ends here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from coherence_grpc.errors import FieldError, SignalInvalid
from coherence_grpc.failpoints import failpoint
from coherence_grpc.ingest.committer import Committer
from coherence_grpc.ingest.identifiers import Uuid7
from coherence_grpc.ingest.publication import Admission, Published
from coherence_grpc.model import Outcome, Result, Retention

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from coherence_grpc.ingest.committer import Line
    from coherence_grpc.ingest.marked import Marked
    from coherence_grpc.ingest.publication import Publication
    from coherence_grpc.model import Appended, Caller, Item, Write
    from coherence_grpc.ports import Clock, SignalStore


class Ingest:
    """Stores what is published, once; an async context manager that finishes what it has accepted when it closes.

    `on_commit` is called with each write that stored something, after its commit and before its caller is answered.
    """

    def __init__(
        self,
        signals: SignalStore,
        clock: Clock,
        *,
        on_commit: Sequence[Callable[[Appended], None]],
        allow_unlimited: bool,
        marked: Marked | None = None,
    ) -> None:
        self._signals = signals
        self._clock = clock
        self._allow_unlimited = allow_unlimited
        self._ids = Uuid7()
        self._marked = marked
        self._committer = Committer(signals, clock, on_commit if marked is None else (*on_commit, marked.appended))

    async def __aenter__(self) -> Self:
        await self._committer.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._committer.__aexit__(*details)
        if self._marked is not None:
            await self._marked.close()

    async def publish(self, publication: Publication, caller: Caller, *, timeout_s: float) -> Published:
        """Stores the publication's signals and says what became of each, in request order.

        A signal without signal_id gets one: of its content when it has a ts, else of the request id and its index. A
        signal without ts gets the instant of the request's first sight. A bad signal is refused by itself. A key that
        is stored with another payload is refused, or takes the new one under OnConflict.REPLACE.

        Raises:
            SignalInvalid: the tags ask for what the configuration refuses.
            RequestIdReused: the request id belongs to another request.
            Draining, Concurrency, StorageFull, StoreDown, StoreTimeout: nothing was stored.
            OutcomeUnknown: it may be stored; the same request again gets the answer.
        Source: ADR-003, ADR-005, AC-ING-02, AC-ING-03, AC-ING-04.
        """
        write = self.admitted(publication, caller)
        # With an id of the caller's even a request refused in full may have had another answer before.
        if publication.validate_only or not (write.items or publication.request_id):
            return Published(_as_if_stored(write), await self._signals.head(publication.tenant_id))
        if self._marked is not None:
            known = await self._marked.answer(write, own_request_id=bool(publication.request_id))
            if known is not None:
                return known
        appended = await self._committer.commit(write, timeout_s=timeout_s)
        failpoint("ack.before")
        return Published(appended.results, appended.head)

    def admitted(self, publication: Publication, caller: Caller) -> Write:
        """What of the publication is to be stored, as of now, and what is refused.

        Raises:
            SignalInvalid: the tags ask for what the configuration refuses.
        """
        if publication.tags.retention is Retention.UNLIMITED and not self._allow_unlimited:
            raise _unlimited_refused()
        now = self._clock.now()
        admission = Admission(publication, publication.request_id or self._ids.next(now), now)
        admission.admit()
        return admission.write(caller, self._ids.next(now))

    @property
    def room(self) -> int:
        """How many signals more may be submitted at the moment."""
        return self._committer.room

    def submit(self, write: Write, line: Line) -> asyncio.Future[Appended]:
        """What will have become of an admitted write, after those of its line.

        Raises:
            Draining, Concurrency: nothing was stored.
        """
        return self._committer.submit(write, line)


def _as_if_stored(write: Write) -> Sequence[Result]:
    accepted: Iterator[Item] = iter(write.items)
    size = len(write.items) + len(write.refused)
    return [
        Result(None, 0, "", None, write.refused[index])
        if index in write.refused
        else Result(Outcome.STORED, 0, "", next(accepted))
        for index in range(size)
    ]


def _unlimited_refused() -> SignalInvalid:
    problem = "unlimited retention is not allowed by this server's configuration; choose another, or leave it out"
    return SignalInvalid(f"tags.retention: {problem}", fields=[FieldError("tags.retention", problem)])
