from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc.aio
import pytest
from google.rpc.status_pb2 import Status

from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.score_pb2 import GetScoreRequest, RecomputeScoreRequest, UpdateScorePolicyRequest
from coherence_grpc.client import Refusal, refusal_of, refusal_of_status
from coherence_grpc.client.calls import Calls
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.errors import FieldError, SignalInvalid, StoreDown

if TYPE_CHECKING:
    from collections.abc import Callable

Write = PublishSignalRequest | PublishSignalsRequest | UpdateScorePolicyRequest | RecomputeScoreRequest


def failed(details: bytes | None, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if details is not None:
        trailing.add("grpc-status-details-bin", details)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details="as told")


def test_a_refusal_says_code_reason_fields_and_when_to_try_again() -> None:
    invalid = status_of(SignalInvalid("signals[3].value is wrong", fields=[FieldError("signals[3].value", "is wrong")]))
    down = status_of(StoreDown("the store can't be reached", metadata={"a": "b"}, retry_after_s=1.5))

    assert refusal_of_status(invalid) == Refusal(
        "INVALID_ARGUMENT",
        "SIGNAL_INVALID",
        "signals[3].value is wrong",
        (FieldError("signals[3].value", "is wrong"),),
    )
    assert refusal_of(failed(down.SerializeToString())) == Refusal(
        "UNAVAILABLE", "STORE_DOWN", "the store can't be reached", (), {"a": "b"}, 1.5
    )


@pytest.mark.parametrize("details", [None, b"\xff\xff", b"", Status(code=99).SerializeToString()])
def test_without_readable_details_code_and_text_remain(details: bytes | None) -> None:
    refusal = refusal_of(failed(details))

    assert refusal == Refusal("UNAVAILABLE", "", "as told")


class _Channel:
    """Keeps what a request is encoded with."""

    def unary_unary(self, _method: str, serializer: Callable[[Any], bytes], _: object) -> Callable[..., None]:
        self.encode = serializer
        return lambda *_args, **_kwargs: None


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("IngestService/PublishSignal", PublishSignalRequest),
        ("IngestService/PublishSignals", PublishSignalsRequest),
        ("ScoreService/UpdateScorePolicy", UpdateScorePolicyRequest),
        ("ScoreService/RecomputeScore", RecomputeScoreRequest),
    ],
)
def test_a_write_that_may_be_tried_again_carries_a_request_id(method: str, kind: type[Write]) -> None:
    channel = _Channel()
    Calls(cast("grpc.aio.Channel", channel), (), 1.0).unary_unary(
        f"/coherence.v1.{method}", kind.SerializeToString, kind.FromString
    )

    first, second = (kind.FromString(channel.encode(kind())).request_id for _ in range(2))
    own = kind.FromString(channel.encode(kind(request_id="mine"))).request_id

    assert first
    assert second
    assert first != second
    assert own == "mine"


def test_a_read_is_sent_as_it_is() -> None:
    channel = _Channel()
    Calls(cast("grpc.aio.Channel", channel), (), 1.0).unary_unary(
        "/coherence.v1.ScoreService/GetScore", GetScoreRequest.SerializeToString, GetScoreRequest.FromString
    )

    assert channel.encode(GetScoreRequest(tenant_id="acme")) == GetScoreRequest(tenant_id="acme").SerializeToString()
