"""`coherence policy`: the rules by which a tenant is scored."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.output import Grid, counted, plain, say_json, screen
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from coherence.v1.score_pb2 import ScorePolicy, ScorePolicyVersion
    from coherence_grpc.client import Client

DEFAULT_ETAG: Final = "default"
IN_FORCE: Final = "current"
LIMIT: Final = 20
EXAMPLES: Final = """\b
coherence policy set acme --set hysteresis=0.02 --set dwell=3h --validate-only
coherence policy set acme --set type_weights.deploy=2 --set vetoes.cancelled=0.25:CRITICAL
coherence policy set acme --file policy.toml
"""


@click.group()
def policy() -> None:
    """Show or change the rules by which a tenant is scored.

    docs/policy.md has each rule with its formula.
    """


@policy.command()
@click.argument("tenant")
@click.option("--etag", default="", metavar="ETAG", help="This version.  [default: the one in force]")
@json_option
@address_option
@asynchronous
async def get(tenant: str, etag: str, as_json: bool, address: str) -> None:
    """Show the rules in force, or those of a version."""
    async with session(address) as client:
        found = await _version(client, tenant, etag)
    if as_json:
        say_json(policy_record(found))
        return
    from coherence_grpc.cli.policy_rules import meaning_of, shown

    grid = Grid("rule", "value", "what it says", whole=("rule", "value"), optional=("what it says",))
    for rule, value in shown(found).items():
        grid.add(plain(rule), plain(value), meaning_of(rule))
    screen().print(plain(_title(found)), soft_wrap=True)
    screen().print(grid)


@policy.command(name="set", epilog=EXAMPLES)
@click.argument("tenant")
@click.option("--file", "file", metavar="FILE", help="The complete rules, JSON or TOML; - is JSON from stdin.")
@click.option("--set", "settings", multiple=True, metavar="RULE=VALUE", help="Change this rule; empty: its default.")
@click.option("--default", "defaults", is_flag=True, help="All rules to their defaults.")
@click.option("--etag", default="", metavar="ETAG", help="Only on top of this version.  [default: the one shown]")
@click.option("--request-id", default="", metavar="TEXT", help="Sent again unchanged, it gets the first reply.")
@click.option("--validate-only", is_flag=True, help="Check it and show what would change; write nothing.")
@json_option
@address_option
@asynchronous
async def set_(
    tenant: str,
    file: str | None,
    settings: tuple[str, ...],
    defaults: bool,
    etag: str,
    request_id: str,
    validate_only: bool,
    as_json: bool,
    address: str,
) -> None:
    """Change the rules: all of them to those of a file, or those that are named.

    What a file leaves out goes back to its default. The change is made on top of the version it was compared with: if
    another came between, it is refused and nothing is changed.
    """
    from google.protobuf.field_mask_pb2 import FieldMask

    from coherence.v1.score_pb2 import ScorePolicy, UpdateScorePolicyRequest
    from coherence_grpc.cli.policy_rules import apply, policy_of, read_file

    if not (defaults or settings or file is not None):
        message = "nothing to change"
        raise Failure(message, "name rules with --set, or a file with --file", exit_code=USAGE)
    if defaults and file is not None:
        message = "--file and --default are both the whole of the rules"
        raise Failure(message, "leave one of the two out", exit_code=USAGE)
    words = {} if file is None else read_file(file)
    async with session(address) as client:
        before = await _version(client, tenant, "")
        wanted = ScorePolicy()
        whole = defaults or file is not None
        wanted.CopyFrom(policy_of(words) if whole else before)
        touched = apply(wanted, settings)
        if words.get("tenant_id") == tenant:
            # What was read, changed and is written back must not undo what came between.
            etag = etag or str(words.get("etag") or "")
        request = UpdateScorePolicyRequest(
            tenant_id=tenant,
            policy=wanted,
            update_mask=FieldMask(paths=["*"] if whole else touched),
            etag=etag or before.etag,
            request_id=request_id,
            validate_only=validate_only,
        )
        reply = await client.score.UpdateScorePolicy(request)
    _show_change(before, reply.policy, reply.revision.token, validate_only=validate_only, as_json=as_json)


@policy.command()
@click.argument("tenant")
@click.argument("before")
@click.argument("after", required=False)
@json_option
@address_option
@asynchronous
async def diff(tenant: str, before: str, after: str | None, as_json: bool, address: str) -> None:
    """Show what differs between two policies: etags, files, `default` or `current`.

    With one it is compared with the one in force: `coherence policy diff acme policy.toml` says what that file would
    change.
    """
    one, other = (IN_FORCE, before) if after is None else (before, after)
    async with session(address) as client:
        was, now = await _named(client, tenant, one), await _named(client, tenant, other)
    if as_json:
        say_json({"from": was.etag or one, "to": now.etag or other, "changes": change_records(was, now)})
    else:
        screen().print(plain(f"from {was.etag or one} to {now.etag or other}"), soft_wrap=True)
        _print_changes(was, now)


@policy.command()
@click.argument("tenant")
@click.option("--limit", type=click.IntRange(1, 999), default=LIMIT, show_default=True, help="At most this many.")
@json_option
@address_option
@asynchronous
async def versions(tenant: str, limit: int, as_json: bool, address: str) -> None:
    """List the versions, newest first, each with what it changed."""
    from coherence.v1.score_pb2 import ListScorePolicyVersionsRequest, ScorePolicyVersion

    async with session(address) as client:
        # One more than is shown: what a version changed is seen by the one before it.
        request = ListScorePolicyVersionsRequest(tenant_id=tenant, page_size=limit + 1)
        found = list((await client.score.ListScorePolicyVersions(request)).versions)
        if len(found) <= limit:
            found.append(ScorePolicyVersion(policy=await _version(client, tenant, DEFAULT_ETAG)))
    if as_json:
        for version, previous in pairwise(found):
            say_json(_version_record(version, previous.policy))
        return
    if len(found) == 1:
        screen().print(plain(f"{tenant} has the default rules, and never had others"), soft_wrap=True)
        return
    _print_versions(found)


def policy_record(policy: ScorePolicy) -> dict[str, object]:
    """A policy as JSON shows it, and as `coherence policy set --file` reads it."""
    from coherence_grpc.cli.policy_rules import record
    from coherence_grpc.cli.views import instant_of

    return {
        "tenant_id": policy.tenant_id,
        "etag": policy.etag or None,
        "update_time": instant_of(policy.update_time if policy.HasField("update_time") else None),
        "seq": policy.seq,
        **record(policy),
    }


def change_records(before: ScorePolicy, after: ScorePolicy) -> list[dict[str, str]]:
    """What differs, as JSON shows it."""
    from coherence_grpc.cli.policy_rules import changes

    return [{"rule": rule, "from": was, "to": now} for rule, was, now in changes(before, after)]


async def _version(client: Client, tenant: str, etag: str) -> ScorePolicy:
    from coherence.v1.score_pb2 import GetScorePolicyRequest

    return (await client.score.GetScorePolicy(GetScorePolicyRequest(tenant_id=tenant, etag=etag))).policy


async def _named(client: Client, tenant: str, name: str) -> ScorePolicy:
    """The policy that a word of `diff` names."""
    from coherence_grpc.cli.policy_rules import is_file, policy_of, read_file

    if not is_file(name):
        return await _version(client, tenant, "" if name == IN_FORCE else name)
    # What the file leaves out has its default.
    found = await _version(client, tenant, DEFAULT_ETAG)
    found.MergeFrom(policy_of(read_file(name)))
    found.etag = ""
    return found


def _title(policy: ScorePolicy) -> str:
    from coherence_grpc.cli.views import second_of

    if not policy.seq:
        return f"{policy.tenant_id}: the default rules, etag {policy.etag}"
    return f"{policy.tenant_id}: version {policy.etag}, entry {policy.seq:,}, of {second_of(policy.update_time)}"


def _show_change(before: ScorePolicy, after: ScorePolicy, revision: str, *, validate_only: bool, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "written": not validate_only and after.etag != before.etag,
                "changes": change_records(before, after),
                "policy": policy_record(after),
                "revision": revision,
            }
        )
        return
    _print_changes(before, after)
    if after.etag == before.etag:
        outcome = f"nothing changed, the etag is still {after.etag}"
    elif validate_only:
        outcome = "valid; nothing was written"
    else:
        outcome = f"written as entry {after.seq:,}, the etag is now {after.etag}"
    screen().print(plain(outcome), soft_wrap=True)


def _print_changes(before: ScorePolicy, after: ScorePolicy) -> None:
    from coherence_grpc.cli.policy_rules import changes

    found = changes(before, after)
    if not found:
        screen().print(plain("no difference"))
        return
    grid = Grid("rule", "from", "to", whole=("rule",))
    for rule, was, now in found:
        grid.add(plain(rule), _coloured(was, "red"), _coloured(now, "green"))
    screen().print(grid)


def _coloured(value: str, colour: str) -> Text:
    text = plain(value)
    text.stylize(colour)
    return text


def _print_versions(found: Sequence[ScorePolicyVersion]) -> None:
    from coherence_grpc.cli.policy_rules import changes
    from coherence_grpc.cli.views import second_of

    grid = Grid("etag", "entry", "since", "changed", right=("entry",), whole=("etag", "since"), optional=("since",))
    for version, previous in pairwise(found):
        changed = [f"{rule} {was} → {now}" for rule, was, now in changes(previous.policy, version.policy)]
        since = second_of(version.policy.update_time)
        grid.add(version.policy.etag, f"{version.policy.seq:,}", since, plain("; ".join(changed)))
    screen().print(grid)
    screen().print(plain(counted(len(found) - 1, "version")))


def _version_record(version: ScorePolicyVersion, previous: ScorePolicy) -> dict[str, object]:
    return {
        **policy_record(version.policy),
        "provenance_id": version.provenance_id,
        "changes": change_records(previous, version.policy),
    }
