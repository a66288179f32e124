from __future__ import annotations

import asyncio
import sys
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import OutcomeUnknown, SettingsInvalid
from coherence_grpc.failpoints import PLACES, arm, failpoint, skewed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("", profile="dev")


def test_a_place_that_is_not_armed_lets_everything_pass() -> None:
    arm("append.after=error", profile="dev")

    for place in PLACES.keys() - {"append.after"}:
        failpoint(place)


def test_an_armed_place_fails_once_at_the_time_it_was_told() -> None:
    arm("append.before=error:3,publish.after=error", profile="dev")

    failpoint("append.before")
    failpoint("append.before")
    with pytest.raises(OutcomeUnknown, match=r"append\.before") as failed:
        failpoint("append.before")
    failpoint("append.before")

    assert failed.value.metadata == {"outcome": "unknown"}


def test_arming_again_forgets_what_was_armed() -> None:
    arm("append.before=error,clock=+5", profile="dev")
    arm("", profile="dev")

    failpoint("append.before")

    assert skewed(lambda: 1)() == 1


@pytest.mark.parametrize(("text", "ahead_us"), [("clock=+10", 10_000_000), ("clock=-0.5", -500_000)])
def test_a_clock_is_as_wrong_as_it_was_told_to_be(text: str, ahead_us: int) -> None:
    arm(text, profile="dev")

    wrong = skewed(lambda: 20_000_000)

    assert wrong() == 20_000_000 + ahead_us


@pytest.mark.parametrize(
    "text",
    ["append", "append.before", "append.before=explode", "append.during=kill", "append.before=kill:0", "clock=10"],
)
def test_what_can_t_be_read_is_refused_with_what_could(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"PLACE=ACTION.*append\.before.*kill, stop, error"):
        arm(text, profile="dev")


def test_outside_of_development_failpoints_are_refused() -> None:
    with pytest.raises(SettingsInvalid, match=r"COHERENCE_FAILPOINTS.*profile prod; unset it"):
        arm("append.before=kill", profile="prod")


@pytest.mark.anyio
async def test_a_killed_process_takes_no_step_beyond_its_place() -> None:
    code = (
        "from coherence_grpc.failpoints import arm, failpoint\n"
        "arm('ack.before=kill:2', profile='dev')\n"
        "for step in ('first', 'second', 'third'):\n"
        "    failpoint('ack.before')\n"
        "    print(step, flush=True)\n"
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()

    assert (process.returncode, said) == (-SIGKILL, b"first\n")
