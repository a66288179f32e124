"""A score in every way there is to compute it: the statements of docs/recompute.md, run as they stand there."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypothesis import strategies as st

from coherence_grpc.materialize.window import Window
from coherence_grpc.model import DAY, QUANTUM, Item
from coherence_grpc.score import WindowSum, status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = Path(__file__).parents[2] / "docs/recompute.md"
BLOCK: Final = re.compile(r"^```(cypher|sqlite|sql)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATEMENTS: Final[dict[str, str]] = dict(BLOCK.findall(PAGE.read_text()))
END: Final = 10 * DAY
START: Final = END - DAY
PPM: Final = 10**6
LIMIT: Final = 1000 * QUANTUM

VALUES: Final = st.integers(0, QUANTUM) | st.sampled_from([0, 1, QUANTUM - 1, QUANTUM, 32_767, 32_768])
WEIGHTS: Final = st.integers(0, LIMIT) | st.sampled_from([0, 1, LIMIT, LIMIT - 1, 2**20 - 1, 2**20])
INSTANTS: Final = st.integers(START - DAY, END + DAY) | st.sampled_from([START - 1, START, START + 1, END, END + 1])

# Signals of a tenant on Neo4j, as its store makes them, as far as they count; a row is (ts, value_q, weight_q, seq).
CREATE: Final = """
MERGE (t:Tenant {tenant_id: $tenant_id})
WITH t
UNWIND $rows AS row
CREATE (t)-[:EMITS]->(:Signal {
    tenant_id: $tenant_id, source: '', signal_id: toString(row[3]), seq: row[3],
    ts: datetime.fromEpoch(row[0] / 1000000, row[0] % 1000000 * 1000), value_q: row[1], weight_q: row[2]
})
"""


class Row(NamedTuple):
    """What of a signal counts."""

    ts: int
    value_q: int
    weight_q: int


ROWS: Final = st.lists(st.builds(Row, INSTANTS, VALUES, WEIGHTS), max_size=200)


def by_fractions(rows: Sequence[Row]) -> tuple[WindowSum, int | None]:
    """The sums, and the score in ppm, from fractions of the numbers themselves."""
    inside = [row for row in rows if START <= row.ts <= END and row.weight_q]
    weighted = sum((Fraction(row.value_q, QUANTUM) * Fraction(row.weight_q, QUANTUM) for row in inside), Fraction())
    weight = sum((Fraction(row.weight_q, QUANTUM) for row in inside), Fraction())
    sums = WindowSum(int(weighted * QUANTUM**2), int(weight * QUANTUM), len(inside))
    # round() of a fraction is half-even, as a score is.
    return sums, round(weighted / weight * PPM) if inside else None


def step_by_step(rows: Sequence[Row], begin: int) -> WindowSum:
    """The sums of a window that opened at `begin` and took the signals in, one half on its way to the end."""
    window = Window(begin)
    half = len(rows) // 2
    for part, instant in ((rows[:half], (begin + END) // 2), (rows[half:], END)):
        window.add([Item("", str(number), "", row.value_q, row.weight_q, row.ts) for number, row in enumerate(part)])
        window.advance(instant)
    return window.sums()


def put_together(found: Sequence[Any]) -> WindowSum:
    """The sums of which a statement found the parts; those of no row are null in SQL."""
    count, hh, hl, lh, ll, weight = (number or 0 for number in found)
    return WindowSum((hh << 35) + (hl << 15) + (lh << 20) + ll, weight, count)


def the_row_of(sums: WindowSum) -> tuple[Any, ...]:
    """What PostgreSQL's statement is to say of the sums."""
    ppm = sums.score_ppm()
    if ppm is None:
        return 0, None, None, None, "UNKNOWN"
    return sums.count, sums.weighted, sums.weight, Fraction(ppm, PPM), status_of(ppm).value
