"""`coherence policy` against a real server: what it shows, changes and refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.commanding import record, records, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving import Served

pytestmark = pytest.mark.anyio


async def test_a_tenant_without_a_policy_shows_the_default_rules(service: Served, tenant: str) -> None:
    shown = await record(service, "policy", "get", tenant)
    said = await run(service, "policy", "get", tenant)
    listed = await run(service, "policy", "versions", tenant)

    assert (shown["etag"], shown["window"], shown["half_life"], shown["vetoes"]) == ("default", "86400s", None, [])
    assert said.stdout.startswith(f"{tenant}: the default rules, etag default\n")
    assert ["window", "24h"] in [line.split()[:2] for line in said.stdout.splitlines()]
    assert listed.stdout == f"{tenant} has the default rules, and never had others\n"


async def test_rules_that_are_named_change_and_the_diff_says_how(service: Served, tenant: str) -> None:
    said = await run(service, "policy", "set", tenant, "--set", "dwell=3h", "--set", "type_weights.deploy=2")
    shown = await record(service, "policy", "get", tenant)

    lines = [line.split() for line in said.stdout.splitlines()]
    assert ["type_weights.deploy", "–", "2"] in lines
    assert ["dwell", "0s", "3h"] in lines
    assert lines[-1][-1] == shown["etag"]
    assert (shown["seq"], shown["dwell"], shown["type_weights"]) == (1, "10800s", {"deploy": 2})


async def test_validate_only_shows_the_same_and_writes_nothing(service: Served, tenant: str) -> None:
    said = await run(service, "policy", "set", tenant, "--set", "dwell=3h", "--validate-only")
    shown = await record(service, "policy", "get", tenant)

    assert said.stdout.splitlines()[-1] == "valid; nothing was written"
    assert "3h" in said.stdout
    assert shown["etag"] == "default"


async def test_a_file_is_the_whole_policy(service: Served, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('hysteresis = 0.02\n[[vetoes]]\ntype = "cancelled"\nbelow = 0.25\ncap_status = "CRITICAL"\n')
    await run(service, "policy", "set", tenant, "--set", "minimum_signals=3")

    differs = await record(service, "policy", "diff", tenant, str(path))
    changed = await record(service, "policy", "set", tenant, "--file", str(path), "--set", "dwell=1h")

    expected = [("vetoes.cancelled", "0.25:CRITICAL"), ("minimum_signals", "1"), ("hysteresis", "0.02")]
    assert [(change["rule"], change["to"]) for change in differs["changes"]] == expected
    assert [(change["rule"], change["to"]) for change in changed["changes"]] == [*expected, ("dwell", "1h")]
    assert changed["written"]


async def test_what_is_read_changed_and_written_back_undoes_nothing_that_came_between(
    service: Served, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.json"
    await run(service, "policy", "set", tenant, "--set", "minimum_signals=3")
    path.write_text(json.dumps(await record(service, "policy", "get", tenant)))
    same = await run(service, "policy", "set", tenant, "--file", str(path))
    current = await record(service, "policy", "set", tenant, "--set", "hysteresis=0.02")

    late = await run(service, "policy", "set", tenant, "--file", str(path), "--set", "dwell=1h")

    assert same.stdout.splitlines()[0] == "no difference"
    assert late.exit_code == 1
    assert late.stderr.startswith("error: ETAG_MISMATCH: ")
    assert current["policy"]["etag"] in late.stderr
    assert "next:  look at `coherence policy get`" in late.stderr


async def test_versions_say_what_each_changed_and_two_can_be_compared(service: Served, tenant: str) -> None:
    for minimum in (2, 3):
        await run(service, "policy", "set", tenant, "--set", f"minimum_signals={minimum}")

    newest, oldest = await records(service, "policy", "versions", tenant)
    (only,) = await records(service, "policy", "versions", tenant, "--limit", "1")
    said = await run(service, "policy", "versions", tenant)
    differs = await record(service, "policy", "diff", tenant, oldest["etag"], "current")

    assert newest["changes"] == [{"rule": "minimum_signals", "from": "2", "to": "3"}] == differs["changes"]
    assert oldest["changes"] == [{"rule": "minimum_signals", "from": "1", "to": "2"}]
    assert (only["etag"], differs["to"]) == (newest["etag"], newest["etag"])
    assert newest["provenance_id"]
    assert said.stdout.splitlines()[-1] == "2 versions"


async def test_all_rules_go_back_to_their_defaults_and_the_versions_stay(service: Served, tenant: str) -> None:
    await run(service, "policy", "set", tenant, "--set", "dwell=3h", "--set", "minimum_signals=3")

    said = await run(service, "policy", "set", tenant, "--default")

    assert said.exit_code == 0
    assert (await record(service, "policy", "diff", tenant, "default"))["changes"] == []
    assert len(await records(service, "policy", "versions", tenant)) == 2


async def test_an_invalid_policy_names_the_rule(service: Served, tenant: str) -> None:
    said = await run(service, "policy", "set", tenant, "--set", "warn_threshold=0.9")
    unknown = await run(service, "policy", "set", tenant, "--set", "warn=0.9")
    nothing = await run(service, "policy", "set", tenant)
    both = await run(service, "policy", "set", tenant, "--default", "--file", "policy.toml")

    assert [one.exit_code for one in (said, unknown, nothing, both)] == [1, 2, 2, 2]
    assert said.stderr.startswith("error: SCORE_POLICY_INVALID: policy.warn_threshold must be at most")
    assert unknown.stderr.startswith("error: there is no rule 'warn'")
    assert nothing.stderr.startswith("error: nothing to change")


async def test_a_version_that_never_was_is_refused(service: Served, tenant: str) -> None:
    said = await run(service, "policy", "diff", tenant, "1-0123456789abcdef")

    assert said.exit_code == 1
    assert said.stderr.startswith("error: SCORE_POLICY_UNKNOWN: ")


async def test_watch_shows_policies_and_replacements_between_the_signals(service: Served, tenant: str) -> None:
    key = ("--tenant", tenant, "--source", "ci", "--type", "build", "--id", "a-1", "--ts", "2026-01-01T00:00:00Z")
    signal = ("publish", *key, "--retention", "unlimited")
    await run(service, *signal, "--value", "0.5")
    await run(service, "policy", "set", tenant, "--set", "dwell=3h")
    await run(service, *signal, "--value", "0.75", "--replace")
    watch = ("watch", tenant, "--events", "--from", "earliest", "--status-changes", "--count", "3")

    shown = await records(service, *watch)
    said = await run(service, *watch)

    kinds = [event["kind"] for event in shown if "SCORE" not in event["kind"]]
    assert kinds == ["SIGNAL_STORED", "POLICY_UPDATED", "SIGNAL_REPLACED"]
    assert (shown[1]["policy"]["dwell"], shown[2]["superseded"]["value"]) == ("10800s", 0.5)
    assert "#2  policy changed  2-" in said.stdout
    assert "value 0.75  weight 1  of 2026-01-01T00:00:00Z  (was value 0.5  weight 1)" in said.stdout


async def test_a_recomputation_is_an_entry_and_shows_a_score_that_has_seen_it(service: Served, tenant: str) -> None:
    await run(service, "publish", "--tenant", tenant, "--source", "ci", "--type", "build", "--value", "0.25")

    first = await record(service, "recompute", tenant, "--request-id", "once")
    again = await record(service, "recompute", tenant, "--request-id", "once")
    shown = await run(service, "recompute", tenant)

    assert (first["seq"], first["score"]["score"], first["score"]["as_of_seq"]) == (2, 0.25, 2)
    assert again["seq"] == first["seq"]
    assert "0.250000  CRITICAL" in shown.stdout
    assert "the recomputation is entry 3" in shown.stdout
