"""Score policies over gRPC: what is asked, what is refused and by which field, what the score makes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from coherence.v1 import events_pb2, ingest_pb2, score_pb2
from coherence_grpc.client import refusal_of
from tests.builders import TENANT
from tests.grpc.running import a_signal, raw, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

DAY_S = 86_400
DEFAULTS = score_pb2.ScorePolicy(
    tenant_id=TENANT,
    etag="default",
    window=Duration(seconds=DAY_S),
    healthy_threshold=0.75,
    warn_threshold=0.5,
    hysteresis=0,
    dwell=Duration(),
    minimum_signals=1,
)
RICH = score_pb2.ScorePolicy(
    window=Duration(seconds=7 * DAY_S),
    half_life=Duration(seconds=DAY_S, nanos=1_000),
    healthy_threshold=0.8,
    warn_threshold=0.6,
    hysteresis=0.02,
    dwell=Duration(seconds=3 * 3600),
    minimum_signals=3,
    stale_after=Duration(seconds=DAY_S),
    vetoes=[score_pb2.Veto(type="cancelled", below=0.25, cap_status=score_pb2.STATUS_CRITICAL)],
    type_weights={"build": 0.5, "deploy": 2, "noise": 0},
    source_share_cap=0.4,
)


async def update(
    served: World,
    policy: score_pb2.ScorePolicy,
    *,
    mask: Sequence[str] = (),
    etag: str = "",
    request_id: str = "",
    validate_only: bool = False,
) -> score_pb2.UpdateScorePolicyResponse:
    """Change the tenant's policy."""
    return await served.client.score.UpdateScorePolicy(
        score_pb2.UpdateScorePolicyRequest(
            tenant_id=TENANT,
            policy=policy,
            update_mask=FieldMask(paths=mask),
            etag=etag,
            request_id=request_id,
            validate_only=validate_only,
        )
    )


async def in_force(served: World, etag: str = "") -> score_pb2.ScorePolicy:
    """The tenant's policy, or a version of it."""
    request = score_pb2.GetScorePolicyRequest(tenant_id=TENANT, etag=etag)
    return (await served.client.score.GetScorePolicy(request)).policy


def rules_of(policy: score_pb2.ScorePolicy) -> score_pb2.ScorePolicy:
    """The policy without what the server sets."""
    bare = score_pb2.ScorePolicy()
    bare.CopyFrom(policy)
    for name in ("tenant_id", "etag", "update_time", "seq"):
        bare.ClearField(name)
    return bare


async def test_a_tenant_without_a_policy_has_the_default_rules(served: World) -> None:
    assert await in_force(served) == DEFAULTS


async def test_every_rule_comes_back_as_it_was_set(served: World) -> None:
    changed = await update(served, RICH)

    assert rules_of(changed.policy) == RICH
    assert await in_force(served) == changed.policy
    assert (changed.policy.seq, changed.policy.tenant_id) == (1, TENANT)
    assert changed.policy.HasField("update_time")


async def test_a_change_moves_the_score_and_its_revision_waits_for_it(served: World) -> None:
    await served.publish(a_signal(value=0.7))
    before = await served.score()

    changed = await update(served, score_pb2.ScorePolicy(healthy_threshold=0.7))
    after = await served.score(seen=changed.revision)

    assert (before.status, before.policy_etag) == (score_pb2.STATUS_WARN, "")
    assert (after.status, after.policy_etag) == (score_pb2.STATUS_HEALTHY, changed.policy.etag)
    assert after.as_of_seq == changed.policy.seq == 2


async def test_every_read_after_the_reply_is_under_the_new_policy(served: World) -> None:
    await served.publish(a_signal(value=0.7))

    for n in range(20):
        changed = await update(served, score_pb2.ScorePolicy(healthy_threshold=0.7 + n % 2 * 0.01))

        assert (await served.score()).policy_etag == changed.policy.etag


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([], score_pb2.ScorePolicy(hysteresis=0.1, minimum_signals=3)),
        (["hysteresis"], score_pb2.ScorePolicy(hysteresis=0.1, minimum_signals=2)),
        (["hysteresis", "type_weights"], score_pb2.ScorePolicy(hysteresis=0.1, minimum_signals=2)),
        (["dwell", "etag", "seq"], score_pb2.ScorePolicy(hysteresis=0.2, minimum_signals=2)),
        (["*"], score_pb2.ScorePolicy(hysteresis=0.1, minimum_signals=3)),
    ],
)
async def test_a_mask_says_what_changes(served: World, mask: list[str], expected: score_pb2.ScorePolicy) -> None:
    await update(
        served,
        score_pb2.ScorePolicy(hysteresis=0.2, minimum_signals=2, dwell=Duration(seconds=5), type_weights={"a": 2}),
    )

    changed = (await update(served, score_pb2.ScorePolicy(hysteresis=0.1, minimum_signals=3), mask=mask)).policy

    assert (changed.hysteresis, changed.minimum_signals) == (expected.hysteresis, expected.minimum_signals)
    assert bool(changed.type_weights) is ("type_weights" not in mask and "*" not in mask)
    assert bool(changed.dwell.seconds) is ("dwell" not in mask and "*" not in mask)


async def test_what_the_server_sets_is_not_looked_at(served: World) -> None:
    first = (await update(served, score_pb2.ScorePolicy(hysteresis=0.1))).policy
    first.hysteresis, first.etag, first.tenant_id, first.seq = 0.2, "nonsense", "another", 99

    changed = (await update(served, first, mask=["*"])).policy

    assert (changed.hysteresis, changed.tenant_id, changed.seq) == (0.2, TENANT, 2)


async def test_of_two_changes_on_one_etag_the_second_is_aborted_and_told_the_current_one(served: World) -> None:
    etag = (await in_force(served)).etag
    first = (await update(served, score_pb2.ScorePolicy(hysteresis=0.1), etag=etag)).policy

    refusal = await refused(update(served, score_pb2.ScorePolicy(hysteresis=0.2), etag=etag))

    assert (refusal.code, refusal.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert refusal.metadata["etag"] == first.etag
    assert await in_force(served) == first


async def test_of_changes_on_one_etag_at_once_one_is_made_and_the_others_are_aborted(served: World) -> None:
    async def attempt(n: int) -> str:
        try:
            return (await update(served, score_pb2.ScorePolicy(minimum_signals=n), etag="default")).policy.etag
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            return f"{refusal.code} {refusal.reason} {refusal.metadata['etag']}"

    async with asyncio.TaskGroup() as group:
        attempts = [group.create_task(attempt(n)) for n in range(2, 10)]
    etag = (await in_force(served)).etag

    assert Counter(one.result() for one in attempts) == {etag: 1, f"ABORTED ETAG_MISMATCH {etag}": 7}


async def test_the_etag_in_force_lets_the_next_change_pass(served: World) -> None:
    etag = "default"
    for hysteresis in (0.1, 0.2, 0.3):
        etag = (await update(served, score_pb2.ScorePolicy(hysteresis=hysteresis), etag=etag)).policy.etag

    assert (await in_force(served)).hysteresis == 0.3


CAP = score_pb2.STATUS_WARN
A_VETO = score_pb2.Veto(type="cancelled", below=0.5, cap_status=CAP)
INVALID = [
    (score_pb2.ScorePolicy(window=Duration(seconds=59)), "policy.window"),
    (score_pb2.ScorePolicy(window=Duration(seconds=30 * DAY_S + 1)), "policy.window"),
    (score_pb2.ScorePolicy(window=Duration(seconds=60, nanos=2_000_000_000)), "policy.window"),
    (score_pb2.ScorePolicy(half_life=Duration(seconds=DAY_S // 64 - 1)), "policy.half_life"),
    (score_pb2.ScorePolicy(half_life=Duration(seconds=DAY_S, nanos=-1)), "policy.half_life"),
    (score_pb2.ScorePolicy(healthy_threshold=1.1), "policy.healthy_threshold"),
    (score_pb2.ScorePolicy(healthy_threshold=float("nan")), "policy.healthy_threshold"),
    (score_pb2.ScorePolicy(healthy_threshold=0.4), "policy.healthy_threshold"),
    (score_pb2.ScorePolicy(warn_threshold=0.8), "policy.warn_threshold"),
    (score_pb2.ScorePolicy(hysteresis=0.6), "policy.hysteresis"),
    (score_pb2.ScorePolicy(dwell=Duration(seconds=-1)), "policy.dwell"),
    (score_pb2.ScorePolicy(minimum_signals=0), "policy.minimum_signals"),
    (score_pb2.ScorePolicy(stale_after=Duration(seconds=2 * DAY_S)), "policy.stale_after"),
    (score_pb2.ScorePolicy(vetoes=[A_VETO, A_VETO]), "policy.vetoes[1].type"),
    (score_pb2.ScorePolicy(vetoes=[score_pb2.Veto(below=0.5, cap_status=CAP)]), "policy.vetoes[0].type"),
    (score_pb2.ScorePolicy(vetoes=[score_pb2.Veto(type="a", below=0, cap_status=CAP)]), "policy.vetoes[0].below"),
    (score_pb2.ScorePolicy(vetoes=[score_pb2.Veto(type="a", below=1e-10, cap_status=CAP)]), "policy.vetoes[0].below"),
    (
        score_pb2.ScorePolicy(vetoes=[score_pb2.Veto(type="a", below=0.5, cap_status=score_pb2.STATUS_HEALTHY)]),
        "policy.vetoes[0].cap_status",
    ),
    (score_pb2.ScorePolicy(vetoes=[A_VETO] * 33), "policy.vetoes"),
    (score_pb2.ScorePolicy(type_weights={"build": -1}), "policy.type_weights[build]"),
    (score_pb2.ScorePolicy(type_weights={"build": 1e-7}), "policy.type_weights[build]"),
    (score_pb2.ScorePolicy(type_weights={str(n): 1 for n in range(101)}), "policy.type_weights"),
    (score_pb2.ScorePolicy(source_share_cap=0.001), "policy.source_share_cap"),
]


@pytest.mark.parametrize(("policy", "path"), INVALID, ids=[f"{n}-{path}" for n, (_, path) in enumerate(INVALID)])
async def test_an_invalid_policy_is_refused_by_the_field_and_writes_nothing(
    shared: World, policy: score_pb2.ScorePolicy, path: str
) -> None:
    refusal = await refused(update(shared, policy))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SCORE_POLICY_INVALID")
    assert path in [error.path for error in refusal.fields]
    assert await in_force(shared) == DEFAULTS


@pytest.mark.parametrize("path", ["nonsense", "type_weights.build", "vetoes[0]", "**", "window.seconds"])
async def test_an_unknown_path_is_refused_by_the_mask(shared: World, path: str) -> None:
    refusal = await refused(update(shared, score_pb2.ScorePolicy(), mask=["window", path]))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SCORE_POLICY_INVALID")
    assert [error.path for error in refusal.fields] == ["update_mask"]
    assert path in refusal.message


async def test_garbage_is_refused_as_an_invalid_policy(shared: World) -> None:
    refusal = await refused(raw(shared, "ScoreService/UpdateScorePolicy")(b"\xff"))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SCORE_POLICY_INVALID")


async def test_fractions_are_kept_in_millionths_half_even(served: World) -> None:
    weights = {"even below": 2**-7, "even above": 3 * 2**-7, "least": 1e-6}

    changed = await update(served, score_pb2.ScorePolicy(healthy_threshold=0.8000004, type_weights=weights))

    assert changed.policy.healthy_threshold == 0.8
    assert dict(changed.policy.type_weights) == {"even below": 0.007812, "even above": 0.023438, "least": 1e-6}


async def test_validate_only_answers_with_the_policy_as_it_would_be(served: World) -> None:
    would_be = (await update(served, RICH, validate_only=True)).policy

    assert rules_of(would_be) == RICH
    assert (would_be.etag, would_be.seq, would_be.HasField("update_time")) == ("", 0, False)
    assert await in_force(served) == DEFAULTS


async def test_a_retry_gets_the_first_reply_and_another_change_under_its_id_is_refused(served: World) -> None:
    first = await update(served, score_pb2.ScorePolicy(hysteresis=0.1), etag="default", request_id="r-1")

    again = await update(served, score_pb2.ScorePolicy(hysteresis=0.1), etag="default", request_id="r-1")
    other = await refused(update(served, score_pb2.ScorePolicy(hysteresis=0.2), etag="default", request_id="r-1"))

    assert again == first
    assert (other.code, other.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_versions_come_in_pages_newest_first(served: World) -> None:
    made = [(await update(served, score_pb2.ScorePolicy(minimum_signals=n))).policy for n in (2, 3, 4)]
    request = score_pb2.ListScorePolicyVersionsRequest(tenant_id=TENANT, page_size=2)

    first = await served.client.score.ListScorePolicyVersions(request)
    request.page_token = first.next_page_token
    second = await served.client.score.ListScorePolicyVersions(request)

    assert [version.policy for version in (*first.versions, *second.versions)] == made[::-1]
    assert second.next_page_token == ""
    provenance = ingest_pb2.GetProvenanceRequest(tenant_id=TENANT, provenance_id=first.versions[0].provenance_id)
    found = await served.client.ingest.GetProvenance(provenance)
    assert [link.seq for link in found.links] == [made[-1].seq]


async def test_a_page_token_of_another_list_is_refused(served: World) -> None:
    for n in (2, 3):
        await update(served, score_pb2.ScorePolicy(minimum_signals=n))
    request = score_pb2.ListScorePolicyVersionsRequest(tenant_id=TENANT, page_size=1)
    token = (await served.client.score.ListScorePolicyVersions(request)).next_page_token

    other = score_pb2.ListScorePolicyVersionsRequest(tenant_id="another", page_token=token)
    refusal = await refused(served.client.score.ListScorePolicyVersions(other))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize("etag", ["1-0123456789abcdef", "nonsense", "f" * 40 + "-0123456789abcdef"])
async def test_a_version_that_never_was_is_not_found(served: World, etag: str) -> None:
    await update(served, score_pb2.ScorePolicy(minimum_signals=2))

    refusal = await refused(in_force(served, etag))

    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "SCORE_POLICY_UNKNOWN")


async def test_an_older_version_is_read_by_its_etag(served: World) -> None:
    first = (await update(served, score_pb2.ScorePolicy(minimum_signals=2))).policy
    await update(served, score_pb2.ScorePolicy(minimum_signals=3))

    assert await in_force(served, first.etag) == first
    assert await in_force(served, "default") == DEFAULTS


async def test_to_recompute_is_an_entry_whose_revision_a_read_can_wait_for(served: World) -> None:
    await served.publish(a_signal(value=0.7))

    reply = await served.client.score.RecomputeScore(score_pb2.RecomputeScoreRequest(tenant_id=TENANT))
    score = await served.score(seen=reply.revision)

    assert (reply.seq, score.as_of_seq, score.score) == (2, 2, 0.7)


async def test_a_policy_and_a_replacement_are_events_with_their_payloads(served: World) -> None:
    old = a_signal(value=0.2, ts=served.clock.now())
    await served.publish(old)
    changed = (await update(served, RICH)).policy
    replacing = ingest_pb2.PublishSignalsRequest(
        tenant_id=TENANT,
        signals=[a_signal(signal_id=old.signal_id, value=0.9, ts=served.clock.now())],
        on_conflict=ingest_pb2.ON_CONFLICT_REPLACE,
    )
    await served.client.ingest.PublishSignals(replacing)

    pulled = await served.client.events.PullEvents(
        events_pb2.PullEventsRequest(
            tenant_id=TENANT,
            start=events_pb2.Start(position=events_pb2.POSITION_EARLIEST),
            filter=events_pb2.EventFilter(
                kinds=[events_pb2.EVENT_KIND_POLICY_UPDATED, events_pb2.EVENT_KIND_SIGNAL_REPLACED]
            ),
        )
    )

    policy, replaced = pulled.events
    assert (policy.kind, policy.policy) == (events_pb2.EVENT_KIND_POLICY_UPDATED, changed)
    assert replaced.kind == events_pb2.EVENT_KIND_SIGNAL_REPLACED
    assert (replaced.superseded.value, replaced.signal.signal.value, replaced.signal.seq) == (0.2, 0.9, 3)
