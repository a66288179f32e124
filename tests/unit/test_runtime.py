from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.config import Runtime, edit_switches, read_switches, runtime
from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = {"materialiser": "on", "read_mode": "cache", "cache": "off", "dedupe_mode": "store", "free_text": "off"}
BAD_FILES = {
    "not JSON": "{",
    "an array": "[]",
    "nested deeply": "[" * 100_000,
    "switches no object": '{"switches": []}',
    "an unknown switch": '{"switches": {"turbo": "on"}}',
    "an unknown value": '{"switches": {"free_text": "maybe"}}',
    "a value of another switch": '{"switches": {"read_mode": "on"}}',
    "a boolean": '{"switches": {"free_text": true}}',
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runtime.json"


def test_without_a_file_every_switch_has_its_default(path: Path) -> None:
    switches = Runtime(path)

    assert switches.switches == DEFAULTS
    assert switches.on("materialiser")
    assert not switches.sha256


def test_what_the_file_leaves_out_has_its_default(path: Path) -> None:
    path.write_text('{"switches": {"free_text": "on"}}')

    switches = Runtime(path)

    assert switches.switches == DEFAULTS | {"free_text": "on"}
    assert switches.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_turned_switch_is_seen_when_the_file_is_read_again(path: Path) -> None:
    switches = Runtime(path)

    assert edit_switches(path, {"materialiser": "off"}) == DEFAULTS | {"materialiser": "off"}
    switches.reload()

    assert not switches.on("materialiser")
    assert read_switches(path)["materialiser"] == "off"


def test_turning_one_switch_leaves_the_others_and_what_else_the_file_holds(path: Path) -> None:
    path.write_text('{"note": "mine", "switches": {"free_text": "on"}}')

    edit_switches(path, {"materialiser": "off"})

    assert read_switches(path) == DEFAULTS | {"materialiser": "off", "free_text": "on"}
    assert '"note": "mine"' in path.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["runtime.json"]


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_leaves_the_last_good_one_in_force_and_is_logged_once(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit_switches(path, {"free_text": "on"})
    switches = Runtime(path)
    digest = switches.sha256

    path.write_text(content)
    switches.reload()
    switches.reload()

    assert switches.on("free_text")
    assert switches.sha256 == digest
    assert len(caplog.records) == 1


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_at_the_start_and_by_an_edit(path: Path, content: str) -> None:
    path.write_text(content)

    with pytest.raises(SettingsInvalid, match="runtime"):
        Runtime(path)
    with pytest.raises(SettingsInvalid):
        edit_switches(path, {"materialiser": "off"})
    assert path.read_text() == content


def test_an_edit_can_mend_the_value_it_sets(path: Path) -> None:
    path.write_text('{"switches": {"free_text": "maybe"}}')

    assert edit_switches(path, {"free_text": "on"})["free_text"] == "on"


@pytest.mark.parametrize("changes", [{"turbo": "on"}, {"free_text": "maybe"}])
def test_an_unknown_name_or_value_changes_nothing(path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        edit_switches(path, changes)

    assert [name for name, _ in caught.value.fields] == list(changes)
    assert not path.exists()


def test_a_file_that_cant_be_read_or_written_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("occupied").write_text("")

    with pytest.raises(SettingsInvalid, match="can't be read"):
        read_switches(tmp_path)
    with pytest.raises(SettingsInvalid, match=r"can't be (read|written)"):
        edit_switches(tmp_path / "occupied" / "runtime.json", {"free_text": "on"})


@pytest.mark.anyio
async def test_the_file_is_read_again_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "RELOAD_S", 0.0)
    switches = Runtime(path)
    reading = asyncio.create_task(switches.keep_reading())

    edit_switches(path, {"free_text": "on"})
    async with asyncio.timeout(10):
        while not switches.on("free_text"):  # noqa: ASYNC110 - a file sets no event
            await asyncio.sleep(0)

    reading.cancel()
