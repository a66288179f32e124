"""The partial sums of SQL against whole integers of Python."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.adapters.embedded import windows
from coherence_grpc.adapters.embedded.opening import open_writer
from coherence_grpc.adapters.embedded.schema import SIGNALS
from coherence_grpc.model import QUANTUM
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import apsw

VALUES = st.integers(0, QUANTUM) | st.sampled_from([0, 1, QUANTUM - 1, QUANTUM, 32_767, 32_768])
WEIGHTS = st.integers(0, 1000 * QUANTUM) | st.sampled_from([0, 1, 1000 * QUANTUM, 1000 * QUANTUM - 1, 2**20 - 1, 2**20])
SIGNALS_OF_A_WINDOW = st.lists(st.tuples(st.integers(0, 100), VALUES, WEIGHTS), max_size=200)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    path: Path = tmp_path_factory.mktemp("sums") / "signals.db"
    with closing(open_writer(path, SIGNALS)) as opened:
        yield opened


@settings(max_examples=100, deadline=None)
@given(rows=SIGNALS_OF_A_WINDOW, start=st.integers(0, 50), end=st.integers(50, 100))
def test_ac_data_03_partial_sums_are_the_sums(
    connection: apsw.Connection, rows: list[tuple[int, int, int]], start: int, end: int
) -> None:
    expected = WindowSum()
    for ts, value_q, weight_q in rows:
        if start <= ts <= end:
            expected = expected.plus(value_q, weight_q)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO signals VALUES (1, ?, '', ?, 1, ?, ?, '', 0)",
        [(ts, str(index), value_q, weight_q) for index, (ts, value_q, weight_q) in enumerate(rows)],
    )

    totals = windows.totals(connection, 1, 1, start, end)
    window = windows.columns(connection, 1, 1, start)
    connection.execute("ROLLBACK")

    assert totals.sums == expected
    assert sorted(zip(window.ts, window.value_q, window.weight_q, strict=True)) == sorted(
        row for row in rows if row[0] >= start and row[2]
    )
