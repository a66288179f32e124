"""What verification makes of a log that was changed behind the store's back (R20, light)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.model import EntryKind, OnConflict
from coherence_grpc.policy import DEFAULT, encode_policy
from tests.builders import TENANT, ManualClock, a_provenance, a_write, an_item
from tests.conformance.asking import append, chance, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from coherence_grpc.ledger import Verdict

pytestmark = pytest.mark.anyio
ENTRIES = 40


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """A directory with two tenants' logs."""
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        for _ in range(ENTRIES // 4):
            await append(signals, a_write(*[an_item() for _ in range(4)]), a_write(an_item(), tenant_id="b"))
    return tmp_path


def change(log: Path, statement: str, *values: bytes | int | str | None) -> int:
    """Changes the file as an intruder would; how many rows."""
    with closing(apsw.Connection(str(log / "signals.db"))) as connection:
        connection.execute(statement, values)
        return connection.total_changes()


def read(log: Path, statement: str, *values: int) -> bytes:
    with closing(apsw.Connection(str(log / "signals.db"))) as connection:
        found: bytes = connection.execute(statement, values).get
        return found


async def verdict_of(log: Path, tenant_id: str = TENANT) -> Verdict:
    async with open_signal_store(log, ManualClock()) as signals:
        return await verdict(signals, tenant_id)


async def test_r20_an_untouched_log_verifies(log: Path) -> None:
    checked = await verdict_of(log)

    assert (checked.checked, checked.first_bad_seq) == (ENTRIES, 0)


@pytest.mark.parametrize("column", ["payload", "entry_hash", "head_hash"])
async def test_r20_every_flipped_bit_is_found(log: Path, column: str) -> None:
    dice = chance(5)
    for seq in dice.sample(range(1, ENTRIES + 1), 5):
        before = read(log, f"SELECT {column} FROM entries WHERE tenant = 1 AND seq = ?", seq)  # noqa: S608 - of three
        bit = dice.randrange(len(before) * 8)
        flipped = bytearray(before)
        flipped[bit // 8] ^= 1 << bit % 8
        put = f"UPDATE entries SET {column} = ? WHERE tenant = 1 AND seq = ?"  # noqa: S608 - of three
        change(log, put, bytes(flipped), seq)

        assert (await verdict_of(log)).first_bad_seq == seq

        change(log, put, before, seq)
    assert (await verdict_of(log)).first_bad_seq == 0


@pytest.mark.parametrize("column", ["recorded_at", "epoch", "kind", "record"])
async def test_r20_a_changed_fact_is_found(log: Path, column: str) -> None:
    change(log, f"UPDATE entries SET {column} = {column} + 1 WHERE tenant = 1 AND seq = 7")  # noqa: S608 - of four

    assert (await verdict_of(log)).first_bad_seq == 7


async def test_r20_a_superseded_payload_slipped_in_is_found(log: Path) -> None:
    change(log, "UPDATE entries SET superseded = payload WHERE tenant = 1 AND seq = 7")

    assert (await verdict_of(log)).first_bad_seq == 7


async def test_r20_what_was_superseded_and_a_policy_are_covered(log: Path) -> None:
    item = an_item(signal_id="one", value=0.1)
    new = item._replace(value_q=item.value_q + 1)
    async with open_signal_store(log, ManualClock()) as signals:
        await append(signals, a_write(item), a_write(new, on_conflict=OnConflict.REPLACE))
        await signals.append_own(TENANT, EntryKind.POLICY, encode_policy(DEFAULT), a_provenance(), now=0)
        await signals.append_own(TENANT, EntryKind.RECOMPUTE, b"", a_provenance(), now=0)
    whole = await verdict_of(log)

    for seq, column in ((ENTRIES + 2, "superseded"), (ENTRIES + 3, "payload")):
        before = read(log, f"SELECT {column} FROM entries WHERE tenant = 1 AND seq = ?", seq)  # noqa: S608 - of two
        put = f"UPDATE entries SET {column} = ? WHERE tenant = 1 AND seq = ?"  # noqa: S608 - of two
        change(log, put, before[:-1] + b"X", seq)
        assert (await verdict_of(log)).first_bad_seq == seq
        change(log, put, before, seq)
    change(log, "UPDATE entries SET superseded = NULL WHERE tenant = 1 AND seq = ?", ENTRIES + 2)

    assert (whole.checked, whole.first_bad_seq) == (ENTRIES + 4, 0)
    assert (await verdict_of(log)).first_bad_seq == ENTRIES + 2


@pytest.mark.parametrize("seq", [1, 17, ENTRIES - 1])
async def test_r20_a_deleted_entry_is_found(log: Path, seq: int) -> None:
    change(log, "DELETE FROM entries WHERE tenant = 1 AND seq = ?", seq)

    assert (await verdict_of(log)).first_bad_seq == seq


async def test_r20_swapped_entries_are_found(log: Path) -> None:
    change(log, "UPDATE entries SET seq = 1000 WHERE tenant = 1 AND seq = 7")
    change(log, "UPDATE entries SET seq = 7 WHERE tenant = 1 AND seq = 8")
    change(log, "UPDATE entries SET seq = 8 WHERE tenant = 1 AND seq = 1000")

    assert (await verdict_of(log)).first_bad_seq == 7


async def test_r20_swapped_tenants_are_found(log: Path) -> None:
    for tenant, other in ((1, 9), (2, 1), (9, 2)):
        change(log, "UPDATE entries SET tenant = ? WHERE tenant = ?", other, tenant)

    assert (await verdict_of(log)).first_bad_seq == 1
    assert (await verdict_of(log, "b")).first_bad_seq == 1


async def test_r20_a_truncated_tail_falls_short_of_the_head(log: Path) -> None:
    change(log, "DELETE FROM entries WHERE tenant = 1 AND seq > 30")

    async with open_signal_store(log, ManualClock()) as signals:
        head = await signals.head(TENANT)
        checked = await verdict(signals)

    assert (checked.checked, head.seq) == (30, ENTRIES)
    assert checked.head_hash != head.head_hash


@pytest.mark.parametrize("column", ["purpose", "principal", "traceparent", "received_at"])
async def test_r20_a_changed_provenance_record_is_found(log: Path, column: str) -> None:
    change(log, "DROP TRIGGER provenance_stays")
    # Records go in by tenant within a transaction, so the third is the tenant's second.
    change(log, f"UPDATE provenance SET {column} = '7' WHERE record = 3")  # noqa: S608 - of four

    assert (await verdict_of(log)).first_bad_seq == 5


async def test_ac_ing_02_a_second_write_to_a_provenance_record_fails(log: Path) -> None:
    for statement in (
        "UPDATE provenance SET purpose = 'demo' WHERE record = 1",
        "DELETE FROM provenance WHERE record = 1",
        "INSERT OR REPLACE INTO provenance SELECT * FROM provenance WHERE record = 1",
    ):
        with pytest.raises(apsw.ConstraintError, match="immutable"):
            change(log, statement)
