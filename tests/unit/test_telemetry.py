from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.telemetry import configure, new_error_id

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What pytest put on the root logger comes back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(level: str, *, human: bool | None = None) -> io.StringIO:
    stream = io.StringIO()
    configure(level, stream=stream, human=human)
    return stream


def test_a_line_is_one_json_object_with_its_fields() -> None:
    stream = lines("info")

    logging.getLogger("coherence_grpc.x").info("call refused", extra={"fields": {"method": "M", "ms": 1.5}})

    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("info", "coherence_grpc.x", "call refused")
    assert (line["method"], line["ms"]) == ("M", 1.5)
    assert line["time"].endswith("Z")


def test_a_traceback_stays_on_the_line() -> None:
    stream = lines("info")

    try:
        raise ValueError("why")  # noqa: EM101, TRY301 - any error
    except ValueError:
        logging.getLogger("coherence_grpc").exception("failed")

    (text,) = stream.getvalue().splitlines()
    assert "ValueError: why" in json.loads(text)["exception"]


def test_on_a_terminal_a_line_is_short_and_what_callers_sent_cant_start_another() -> None:
    stream = lines("info", human=True)

    logging.getLogger("subgraph").warning("refused", extra={"fields": {"source": "a\nb"}})

    (text,) = stream.getvalue().splitlines()
    assert text.endswith("warning refused source='a\\nb'")


def test_a_traceback_is_shown_below_a_short_line() -> None:
    stream = lines("info", human=True)

    try:
        raise ValueError("why")  # noqa: EM101, TRY301 - any error
    except ValueError:
        logging.getLogger("coherence_grpc").exception("failed")

    assert stream.getvalue().rstrip().endswith("ValueError: why")


@pytest.mark.parametrize(("level", "expected"), [("debug", ["d", "i", "w"]), ("info", ["i", "w"]), ("warning", ["w"])])
def test_the_level_decides_what_is_logged_of_ours(level: str, expected: list[str]) -> None:
    stream = lines(level)
    logger = logging.getLogger("coherence_grpc.any")

    logger.debug("d")
    logger.info("i")
    logger.warning("w")
    logging.getLogger("some.library").info("theirs")

    assert [json.loads(text)["message"] for text in stream.getvalue().splitlines()] == expected


def test_a_driver_that_loses_a_connection_leaves_saying_so_to_us() -> None:
    stream = lines("debug")

    logging.getLogger("neo4j.io").error("[#C3A0] <CONNECTION> error: failed to read")
    logging.getLogger("coherence_grpc.breaker").warning("a store fails and is asked only now and then")

    assert [json.loads(text)["logger"] for text in stream.getvalue().splitlines()] == ["coherence_grpc.breaker"]


def test_error_ids_are_short_and_never_the_same() -> None:
    ids = {new_error_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(len(error_id) == 16 for error_id in ids)
