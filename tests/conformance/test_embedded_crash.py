"""What is left of a data directory after kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from tests.builders import TENANT, ManualClock, an_item
from tests.conformance.asking import append_items, stored, verdict

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
KILLS = 4


def append_until_killed(directory: Path, round_: int) -> int:
    """The last entry that a process answered for before it was killed in the middle of its work."""
    command = [sys.executable, "-m", "tests.conformance.appending", str(directory), str(round_)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(15 + 10 * round_):
            assert process.stdout.readline()
        process.kill()
        return int(process.stdout.read().split("\n")[-2:][0] or 0)


async def test_r3_what_was_answered_before_a_kill_is_there_once_and_verifies(tmp_path: Path) -> None:
    answered = 0
    for round_ in range(KILLS):
        answered = max(answered, append_until_killed(tmp_path, round_))

        async with open_signal_store(tmp_path, ManualClock()) as signals:
            head = await signals.head(TENANT)
            checked = await verdict(signals)
            items = await stored(signals)
            window = await signals.window(TENANT, start=0)

        assert head.seq >= answered
        assert (checked.checked, checked.first_bad_seq, checked.head_hash) == (head.seq, 0, head.head_hash)
        assert len(set(items)) == len(items) == len(window.ts) == head.seq
        # Fifty at a time: a request is there as a whole or not at all.
        assert head.seq % 50 == 0


async def test_r3_the_log_goes_on_after_a_kill(tmp_path: Path) -> None:
    append_until_killed(tmp_path, 0)

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        before = await signals.head(TENANT)
        appended = await append_items(signals, an_item())

        assert appended.first_seq == before.seq + 1
        assert (await verdict(signals)).checked == appended.first_seq
