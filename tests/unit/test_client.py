from __future__ import annotations

import grpc.aio
import pytest
from google.rpc.status_pb2 import Status

from coherence_grpc.client import Refusal, refusal_of, refusal_of_status
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.errors import FieldError, SignalInvalid, StoreDown


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
