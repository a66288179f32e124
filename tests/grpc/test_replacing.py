"""on_conflict = REPLACE and durability = SCORED, as callers see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.model import SECOND
from tests.builders import NOON, TENANT
from tests.grpc.running import a_signal, refused

if TYPE_CHECKING:
    from coherence.v1 import signal_pb2
    from tests.grpc.running import World

pytestmark = pytest.mark.anyio


def one(value: float, **options: object) -> pb.PublishSignalRequest:
    """The one signal with this value, to replace what is there."""
    fields = {"on_conflict": pb.ON_CONFLICT_REPLACE, **options}
    signal = a_signal(signal_id="one", ts=NOON, value=value, tenant_id=TENANT)
    return pb.PublishSignalRequest(signal=signal, **fields)  # type: ignore[arg-type]  # fields by name


def several(*signals: signal_pb2.Signal, **options: object) -> pb.PublishSignalsRequest:
    fields = {"on_conflict": pb.ON_CONFLICT_REPLACE, **options}
    return pb.PublishSignalsRequest(tenant_id=TENANT, signals=signals, **fields)  # type: ignore[arg-type]


async def test_another_payload_takes_the_place_of_the_one_that_is_there(served: World) -> None:
    first = await served.client.ingest.PublishSignal(one(0.2))

    second = await served.client.ingest.PublishSignal(one(0.9))

    assert (first.outcome, second.outcome) == (pb.OUTCOME_STORED, pb.OUTCOME_REPLACED)
    assert (second.seq, second.key) == (2, first.key)
    found = await served.client.ingest.GetSignal(pb.GetSignalRequest(key=first.key))
    assert (found.signal.signal.value, found.signal.seq) == (0.9, 2)
    assert found.signal.provenance_id == second.provenance_id != first.provenance_id


async def test_the_score_is_that_of_the_new_payload(served: World) -> None:
    await served.publish(a_signal(value=0.5, ts=NOON))
    await served.client.ingest.PublishSignal(one(0.1))
    before = await served.score()

    reply = await served.client.ingest.PublishSignal(one(0.9))

    after = await served.score(seen=reply.revision)
    assert (before.score, before.signal_count) == (0.3, 2)
    assert (after.score, after.signal_count) == (0.7, 2)
    assert (await served.score(as_of=NOON)).score == 0.7


async def test_in_a_batch_each_signal_has_its_own_outcome_and_they_are_counted(served: World) -> None:
    known, changed = a_signal(ts=NOON), a_signal(ts=NOON, value=0.2)
    await served.publish(known, changed)
    changed.value = 0.4

    reply = await served.client.ingest.PublishSignals(several(known, changed, a_signal(), a_signal(value=2)))

    assert [result.outcome for result in reply.results] == [
        pb.OUTCOME_DUPLICATE,
        pb.OUTCOME_REPLACED,
        pb.OUTCOME_STORED,
        pb.OUTCOME_UNSPECIFIED,
    ]
    counts = (reply.stored_count, reply.duplicate_count, reply.replaced_count, reply.refused_count)
    assert counts == (1, 1, 1, 1)
    assert [result.seq for result in reply.results] == [1, 3, 4, 0]


async def test_a_late_retry_under_its_request_id_does_no_harm(served: World) -> None:
    await served.client.ingest.PublishSignal(one(0.1))
    first = await served.client.ingest.PublishSignal(one(0.2, request_id="r"))
    newest = await served.client.ingest.PublishSignal(one(0.3))

    again = await served.client.ingest.PublishSignal(one(0.2, request_id="r"))

    assert (again.outcome, again.seq, again.provenance_id) == (pb.OUTCOME_DUPLICATE, first.seq, first.provenance_id)
    assert (await served.score(seen=newest.revision)).score == 0.3


async def test_the_same_request_id_with_the_other_mode_is_refused(served: World) -> None:
    await served.client.ingest.PublishSignal(one(0.1, request_id="r"))

    refusal = await refused(
        served.client.ingest.PublishSignal(one(0.1, request_id="r", on_conflict=pb.ON_CONFLICT_REJECT))
    )

    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


@pytest.mark.parametrize("mode", [pb.ON_CONFLICT_UNSPECIFIED, pb.ON_CONFLICT_REJECT])
async def test_without_replace_nothing_is_replaced(served: World, mode: pb.OnConflict.ValueType) -> None:
    await served.client.ingest.PublishSignal(one(0.1, on_conflict=mode))

    refusal = await refused(served.client.ingest.PublishSignal(one(0.2, on_conflict=mode)))

    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "SIGNAL_KEY_CONFLICT")
    assert (await served.score()).score == 0.1


@pytest.mark.parametrize("field", ["on_conflict", "durability"])
@pytest.mark.parametrize("count", [1, 3])
async def test_a_mode_that_is_none_is_refused_by_its_name(served: World, field: str, count: int) -> None:
    signals = [a_signal() for _ in range(count)]

    refusal = await refused(served.client.ingest.PublishSignals(several(*signals, **{field: 9})))

    assert (refusal.code, [error.path for error in refusal.fields]) == ("INVALID_ARGUMENT", [field])


async def test_the_ledger_of_replacements_verifies_and_their_provenance_links_to_it(served: World) -> None:
    for value in (0.1, 0.2):
        await served.client.ingest.PublishSignal(one(value))
    reply = await served.client.ingest.PublishSignal(one(0.3))

    verdict = await served.client.ingest.VerifyLedger(pb.VerifyLedgerRequest(tenant_id=TENANT))
    found = await served.client.ingest.GetProvenance(
        pb.GetProvenanceRequest(tenant_id=TENANT, provenance_id=reply.provenance_id)
    )

    assert (verdict.valid, verdict.complete, verdict.checked_count) == (True, True, 3)
    assert [link.seq for link in found.links] == [3]
    assert found.links[0].head_hash == verdict.next_head_hash


async def test_a_check_alone_replaces_nothing(served: World) -> None:
    await served.client.ingest.PublishSignal(one(0.1))

    reply = await served.client.ingest.PublishSignal(one(0.2, validate_only=True, durability=pb.DURABILITY_SCORED))

    assert (reply.seq, reply.HasField("score"), reply.score_pending) == (0, False, False)
    assert (await served.score()).score == 0.1


@pytest.mark.parametrize("materialiser", ["on", "off"])
async def test_scored_answers_with_a_score_that_has_seen_the_signal(served: World, materialiser: str) -> None:
    served.turn(materialiser=materialiser)
    await served.client.ingest.PublishSignal(one(0.2))

    replaced = await served.client.ingest.PublishSignal(one(0.4, durability=pb.DURABILITY_SCORED))
    batch = await served.client.ingest.PublishSignals(
        several(a_signal(value=0.8, ts=NOON), durability=pb.DURABILITY_SCORED)
    )

    assert (replaced.score.score, replaced.score.as_of_seq, replaced.score_pending) == (0.4, 2, False)
    assert (batch.score.score, batch.score.as_of_seq, batch.score_pending) == (0.6, 3, False)
    assert batch.score.cursor


async def test_scored_again_answers_with_the_score_as_well(served: World) -> None:
    request = one(0.2, durability=pb.DURABILITY_SCORED, request_id="r")
    await served.client.ingest.PublishSignal(request)
    served.clock.advance(5 * SECOND)

    again = await served.client.ingest.PublishSignal(request)

    assert (again.outcome, again.score.score) == (pb.OUTCOME_DUPLICATE, 0.2)


async def test_without_scored_there_is_no_score_and_none_is_pending(served: World) -> None:
    reply = await served.client.ingest.PublishSignal(one(0.2))

    assert (reply.HasField("score"), reply.score_pending) == (False, False)


async def test_a_score_that_cannot_be_had_in_time_is_pending_and_the_signal_stored(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coherence_grpc.materialize.scored.PATIENCE_S", 0.0)
    served.turn(materialiser="off")

    one_reply = await served.client.ingest.PublishSignal(one(0.2, durability=pb.DURABILITY_SCORED))
    batch = await served.client.ingest.PublishSignals(several(a_signal(ts=NOON), durability=pb.DURABILITY_SCORED))

    assert (one_reply.outcome, one_reply.score_pending, one_reply.HasField("score")) == (pb.OUTCOME_STORED, True, False)
    assert (batch.stored_count, batch.score_pending, batch.HasField("score")) == (1, True, False)
    assert (await served.score()).signal_count == 2
