"""Files as rows, rows as batches, and what is kept of an import under way."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing import key_of, runner
from coherence_grpc.cli.importing.batches import MAX_BYTES, MAX_SIGNALS, MAX_WAITING, Batch, Batcher
from coherence_grpc.cli.importing.inputs import columns_of, open_file
from coherence_grpc.cli.importing.progress import Progress, ProgressFile, Witness
from coherence_grpc.cli.importing.rejects import RejectsFile
from coherence_grpc.cli.importing.rows import MAX_LINE_BYTES, Columns, Csv, JsonLines, Reject, Row
from coherence_grpc.cli.sending import Sending
from coherence_grpc.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PLAIN = Columns({}, {})


def json_rows(content: bytes, *, tenant_id: str = "") -> list[Row | Reject]:
    return list(JsonLines(BytesIO(content), tenant_id=tenant_id).rows())


def csv_rows(content: str | bytes, columns: Columns = PLAIN) -> list[Row | Reject]:
    return list(Csv(BytesIO(content if isinstance(content, bytes) else content.encode()), columns).rows())


def a_row(line: int = 1, tenant_id: str = "acme", signal: Signal | None = None) -> Row:
    return Row(line, tenant_id, signal or Signal(source="ci", type="build", value=0.5), "")


def batches(rows: Iterable[Row]) -> list[Batch]:
    batcher = Batcher()
    return [batch for row in rows for batch in batcher.add(row)] + [*batcher.rest()]


def test_json_lines_keep_their_numbers_and_name_the_tenant_once() -> None:
    rows = json_rows(b'\xef\xbb\xbf{"tenant_id":"acme","value":1}\n\n{"value":0}\n', tenant_id="fallback")

    assert rows == [
        Row(1, "acme", Signal(value=1), '\ufeff{"tenant_id":"acme","value":1}'.removeprefix("\ufeff")),
        Row(3, "fallback", Signal(value=0), '{"value":0}'),
    ]


def test_a_line_without_a_tenant_is_rejected() -> None:
    assert json_rows(b'{"value":0}') == [
        Reject(1, "tenant_id", "is missing; add it, or name one for all with --tenant", '{"value":0}')
    ]


def test_an_endless_line_is_one_reject_and_the_next_line_is_read() -> None:
    rows = json_rows(b"[" * (3 * MAX_LINE_BYTES) + b'\n{"value":0}\n', tenant_id="acme")

    assert [(row.line, type(row)) for row in rows] == [(1, Reject), (2, Row)]


def test_a_csv_maps_its_columns_by_name_or_as_told() -> None:
    columns = columns_of(["tenant_id=team", "value=pass rate"], ["source=ci", "type=build"], "")

    rows = csv_rows('team,"pass rate",ts,other\nacme,0.5,2013-02-08T00:00:00Z,x\n', columns)

    assert [(row.line, row.tenant_id) for row in rows if isinstance(row, Row)] == [(2, "acme")]
    assert isinstance(rows[0], Row)
    assert rows[0].signal.source == "ci"
    assert rows[0].signal.ts.seconds == 1_360_281_600


def test_a_csv_row_that_names_no_tenant_belongs_to_the_one_named_for_all() -> None:
    named = csv_rows("tenant_id,source,type,value\nacme,ci,build,1\n,ci,build,1\n", columns_of([], [], "other"))
    unnamed = csv_rows("source,type,value\nci,build,1\n", columns_of([], [], "other"))

    assert [row.tenant_id for row in (*named, *unnamed) if isinstance(row, Row)] == ["acme", "other", "other"]


def test_a_csv_counts_lines_over_quoted_line_breaks() -> None:
    rows = csv_rows('tenant_id,source,type,value\nacme,"a\nb",build,1\nacme,ci,build,high\n')

    assert [row.line for row in rows] == [2, 4]
    assert rows[1] == Reject(4, "value", "is 'high'; write a number", "acme,ci,build,high")


def test_bytes_that_are_not_utf8_are_rejected_where_they_stand() -> None:
    rows = csv_rows(b"tenant_id,source,type,value\nacme,\xff,build,1\nacme,ci,build,1\n")

    assert [type(row) for row in rows] == [Reject, Row]
    assert isinstance(rows[0], Reject)
    assert rows[0].field == "source"


def test_a_row_with_more_cells_than_the_header_is_rejected() -> None:
    rows = csv_rows("tenant_id,source,type,value\nacme,ci,build,1,2\n")

    assert rows == [Reject(2, "", "has 5 cells, but the header has 4", "acme,ci,build,1,2")]


def test_an_endless_cell_is_rejected() -> None:
    rows = csv_rows("tenant_id,source,type,value\nacme,ci,build,1" + "1" * MAX_LINE_BYTES + "\nacme,ci,build,1\n")

    assert [type(row) for row in rows] == [Reject, Row]


@pytest.mark.parametrize(
    ("header", "mapped", "problem"),
    [
        ("tenant_id,source,type", [], "nothing gives value; add --map value=COLUMN or --set value=TEXT"),
        ("", [], "nothing gives tenant_id and source and type and value"),
        ("tenant_id,source,type,v", ["value=w"], "the column 'w' for value is not there; the header is tenant_id,"),
        ("tenant_id,source,type,value,value", [], "the column 'value' for value is there twice"),
    ],
)
def test_a_header_that_does_not_have_what_is_needed_is_refused(header: str, mapped: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        csv_rows(f"{header}\n", columns_of(mapped, [], ""))


@pytest.mark.parametrize("text", ["value", "price=value", "=x"])
def test_a_mapping_that_names_no_field_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="write it as FIELD=COLUMN"):
        columns_of([text], [], "")


def test_a_file_is_known_by_its_content_and_by_how_it_is_read(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("{}\n")
    second.write_text("{}\n")

    with open_file(first, None, PLAIN, "") as one, open_file(second, None, PLAIN, "") as same:
        assert one.digest == same.digest
    with open_file(first, None, PLAIN, "") as one, open_file(second, None, PLAIN, "acme") as other:
        assert one.digest != other.digest
    assert key_of(one.digest, Sending()) != key_of(one.digest, Sending(backfill=True))


def test_a_file_whose_name_does_not_say_what_it_is_needs_a_format(tmp_path: Path) -> None:
    (tmp_path / "signals.txt").write_text("")

    with pytest.raises(Failure, match="does not say what it is"), open_file(tmp_path / "signals.txt", None, PLAIN, ""):
        pass


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=200))
def test_batches_hold_every_row_once_in_order_within_its_tenant(tenants: list[str]) -> None:
    rows = [a_row(line, tenant) for line, tenant in enumerate(tenants)]

    made = batches(rows)

    assert [batch.number for batch in made] == list(range(len(made)))
    for tenant in set(tenants):
        sent = [row for batch in made if batch.tenant_id == tenant for row in batch.rows]
        assert sent == [row for row in rows if row.tenant_id == tenant]


def test_a_batch_is_full_at_a_thousand_signals() -> None:
    assert [len(batch.rows) for batch in batches(a_row() for _ in range(2 * MAX_SIGNALS + 1))] == [1_000, 1_000, 1]


def test_a_batch_is_full_before_the_server_finds_it_too_large() -> None:
    large = Signal(source="x" * 100_000, type="build", value=1)

    made = batches(a_row(signal=large) for _ in range(20))

    assert all(sum(row.signal.ByteSize() for row in batch.rows) <= MAX_BYTES for batch in made)
    assert sum(len(batch.rows) for batch in made) == 20


def test_many_tenants_do_not_pile_up_rows_without_end() -> None:
    batcher = Batcher()

    made = [batch for line in range(MAX_WAITING) for batch in batcher.add(a_row(line, f"t{line}"))]

    assert len(made) == MAX_WAITING


def test_progress_reads_back_as_it_was_written(tmp_path: Path) -> None:
    kept = ProgressFile(tmp_path / "state.json")
    progress = Progress("key", lines=7, rejects_bytes=3, witness=Witness("acme", "token"))
    for number in (0, 1, 3):
        progress.note(number)
    progress.counts.stored = 5

    kept.write(progress)

    assert kept.read("key") == progress
    assert [number for number in range(5) if not progress.answered(number)] == [2, 4]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 1, "key": "another"}', "\0", '{"version":1,"key":"key","beyond":1}']
)
def test_progress_of_another_import_or_none_is_a_fresh_start(tmp_path: Path, content: str) -> None:
    kept = ProgressFile(tmp_path / "state.json")
    kept.path.write_text(content)

    assert kept.read("key") == Progress("key")


def test_rejects_go_on_after_what_was_kept_of_an_earlier_run(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    rejects = RejectsFile(path, kept_bytes=0)
    rejects.add(1, "SIGNAL_INVALID", "first", "{}")
    kept = rejects.size()
    rejects.add(2, "SIGNAL_INVALID", "written, but not remembered", "{}")
    rejects.close()

    again = RejectsFile(path, kept_bytes=kept)
    again.add(3, "SIGNAL_INVALID", "third", "\udcff")
    again.close()

    assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == [1, 3]


def test_without_rejects_no_file_stays_from_an_earlier_import(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text("old")

    RejectsFile(path, kept_bytes=0).close()

    assert not path.exists()


@pytest.mark.anyio
async def test_a_server_that_stays_away_stops_the_import_and_what_was_answered_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE_S", 0.0)
    kept = ProgressFile(tmp_path / "state.json")
    source = JsonLines(BytesIO(b'{"tenant_id":"acme","source":"ci","type":"build","value":1}\n'))
    async with connect("127.0.0.1:1") as client:
        importing = runner.Import(
            client,
            source,
            Sending(),
            Progress("key"),
            kept=kept,
            rejects=RejectsFile(tmp_path / "rejects.jsonl", kept_bytes=0),
            rate=None,
            on_progress=lambda: None,
        )

        with pytest.raises(Failure) as stopped:
            await importing.run()

    assert stopped.value.exit_code == 3
    assert "stopped after 0 rows: the server at 127.0.0.1:1 can't be reached" in stopped.value.message
    assert "run the same command again" in stopped.value.next_step
    assert kept.path.exists()
