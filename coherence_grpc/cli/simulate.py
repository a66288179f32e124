"""`coherence simulate`: what a score would be with more signals, under other rules, or both."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final, NamedTuple

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.instants import DURATION, INSTANT, micros, render_age, timestamp
from coherence_grpc.cli.output import NOTHING, Grid, counted, plain, say_json, screen, status_text
from coherence_grpc.cli.session import address_option, asynchronous, json_option, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence.v1.score_pb2 import Score, ScorePolicy, SimulateScoreResponse, StatusDifference
    from coherence.v1.signal_pb2 import Signal
    from coherence_grpc.client import Client

MOST_SIGNALS: Final = 1_000
# So many stretches are listed; --json has all that the server tells.
MOST_LISTED: Final = 40
DAY: Final = 86_400_000_000
EXAMPLES: Final = """\b
coherence simulate acme --signal source=ci,type=build,value=0.1
coherence simulate acme --set hysteresis=0.02 --set dwell=3h --lookback 30d
coherence simulate acme --policy policy.toml --as-of 2013-02-09T18:00:00Z signals.jsonl
"""


class Rules(NamedTuple):
    """What the options say about the rules."""

    file: str | None
    settings: Sequence[str]
    defaults: bool


@click.command(epilog=EXAMPLES)
@click.argument("tenant")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE|-]")
@click.option(
    "--signal", "given", multiple=True, metavar="FIELD=VALUE,…", help="One signal more: source=…,type=…,value=…"
)
@click.option("--policy", "policy_file", metavar="FILE", help="The complete rules, JSON or TOML; - is JSON from stdin.")
@click.option("--set", "settings", multiple=True, metavar="RULE=VALUE", help="With this rule; empty: its default.")
@click.option("--default", "defaults", is_flag=True, help="All rules at their defaults.")
@click.option(
    "--as-of", "--at", "at", type=INSTANT, metavar="INSTANT", help="As of this past instant (RFC 3339).  [default: now]"
)
@click.option(
    "--lookback",
    type=DURATION,
    default=7 * DAY,
    metavar="DURATION",
    help="Compare statuses so far back.  [default: 7d]",
)
@json_option
@address_option
@asynchronous
async def simulate(
    tenant: str,
    file: IO[bytes] | None,
    given: tuple[str, ...],
    policy_file: str | None,
    settings: tuple[str, ...],
    defaults: bool,
    at: int | None,
    lookback: int,
    as_json: bool,
    address: str,
) -> None:
    """Show what a score would be, and when statuses would have differed; nothing is written.

    With signals from --signal or from JSON lines (a file, or - for stdin), dated now unless they have a ts, and under
    the rules in force, changed as --set says, or under those of a file.
    """
    from google.protobuf.duration_pb2 import Duration

    from coherence.v1.score_pb2 import SimulateScoreRequest

    rules = Rules(policy_file, settings, defaults)
    _check(rules, file)
    signals = [*_signals_of_options(given), *_signals_of_lines(file, tenant)]
    if len(signals) > MOST_SIGNALS:
        message = f"more than {MOST_SIGNALS:,} signals"
        raise Failure(message, "suppose fewer at once", exit_code=USAGE)
    span = Duration()
    span.FromMicroseconds(lookback)
    async with session(address) as client:
        request = SimulateScoreRequest(
            tenant_id=tenant,
            signals=signals,
            policy=await _policy(client, tenant, rules),
            as_of_time=None if at is None else timestamp(at),
            lookback=span,
        )
        response = await client.score.SimulateScore(request)
    if as_json:
        say_json(simulation_record(response))
    else:
        _show(tenant, response)


def simulation_record(response: SimulateScoreResponse) -> dict[str, object]:
    """What would be, as JSON shows it."""
    from coherence_grpc.cli.views import instant_of, score_record

    return {
        "actual": score_record(response.actual),
        "simulated": score_record(response.simulated),
        "score_delta": response.score_delta if response.HasField("score_delta") else None,
        "actual_change_count": response.actual_change_count,
        "simulated_change_count": response.simulated_change_count,
        "compared_from_time": instant_of(response.compared_from_time),
        "differences": [_difference_record(difference) for difference in response.differences],
        "differences_truncated": response.differences_truncated,
        "revision": response.revision.token,
    }


def _difference_record(difference: StatusDifference) -> dict[str, object]:
    from coherence_grpc.cli.views import instant_of, status_word

    return {
        "start_time": instant_of(difference.start_time),
        "end_time": instant_of(difference.end_time),
        "actual_status": status_word(difference.actual_status),
        "simulated_status": status_word(difference.simulated_status),
    }


def _check(rules: Rules, file: IO[bytes] | None) -> None:
    if rules.defaults and rules.file is not None:
        message = "--policy and --default are both the whole of the rules"
        raise Failure(message, "leave one of the two out", exit_code=USAGE)
    if rules.file == "-" and file is not None and file.name == "<stdin>":
        message = "the signals and the rules are both to come from stdin"
        raise Failure(message, "put one of the two into a file", exit_code=USAGE)


async def _policy(client: Client, tenant: str, rules: Rules) -> ScorePolicy | None:
    from coherence.v1.score_pb2 import GetScorePolicyRequest, ScorePolicy
    from coherence_grpc.cli.policy_rules import apply, policy_of, read_file

    if not (rules.settings or rules.defaults or rules.file is not None):
        return None
    policy = ScorePolicy()
    if rules.file is not None:
        policy = policy_of(read_file(rules.file))
    elif not rules.defaults:
        policy = (await client.score.GetScorePolicy(GetScorePolicyRequest(tenant_id=tenant))).policy
    apply(policy, rules.settings)
    return policy


def _signals_of_options(given: Sequence[str]) -> Iterator[Signal]:
    from coherence_grpc.cli.records import FIELDS, RecordInvalid, signal_of_cells

    for text in given:
        parts = [part.partition("=") for part in text.split(",")]
        fields = {"signal_id" if name.strip() == "id" else name.strip(): value.strip() for name, _, value in parts}
        if not (all(equals for _, equals, _ in parts) and fields.keys() <= set(FIELDS)):
            message = f"--signal {text[:64]!r} is not FIELD=VALUE,… with fields of {', '.join(FIELDS)}"
            raise Failure(message, "write it like source=ci,type=build,value=0.1", exit_code=USAGE)
        try:
            yield signal_of_cells(fields)
        except RecordInvalid as invalid:
            message = f"--signal {text[:64]!r}: {invalid}"
            raise Failure(message, "write it like source=ci,type=build,value=0.1", exit_code=USAGE) from None


def _signals_of_lines(file: IO[bytes] | None, tenant: str) -> Iterator[Signal]:
    from coherence_grpc.cli.importing.rows import JsonLines, Row

    if file is None:
        return
    for row in JsonLines(file, tenant_id=tenant).rows():
        if not isinstance(row, Row):
            field = f"{row.field} " if row.field else ""
            message = f"line {row.line}: {field}{row.problem}"
            raise Failure(message, "correct the line", exit_code=USAGE)
        if row.tenant_id != tenant:
            message = f"line {row.line} is a signal of tenant {row.tenant_id[:64]!r}"
            raise Failure(message, f"suppose signals of {tenant} only", exit_code=USAGE)
        yield row.signal


def _show(tenant: str, response: SimulateScoreResponse) -> None:
    from coherence_grpc.cli.views import second_of

    begin, end = response.compared_from_time, response.actual.window_end_time
    compared = "" if begin == end else f", compared from {second_of(begin)}"
    screen().print(plain(f"{tenant}  as of {second_of(end)}{compared}"), soft_wrap=True)
    screen().print(_scores(response))
    if begin != end:
        was, would_be = response.actual_change_count, response.simulated_change_count
        screen().print(plain(f"{counted(was, 'status change')}; {would_be:,} would have been"), soft_wrap=True)
        _print_differences(response)
    screen().print(plain("nothing was written"))


def _scores(response: SimulateScoreResponse) -> Grid:
    from coherence_grpc.cli.views import score_figure, status_word

    grid = Grid("", "score", "status", "held", "signals", right=("score", "signals"), whole=("", "status", "held"))

    def add(name: str, score: Score) -> None:
        held = status_text(status_word(score.held_status)) if score.held_status else plain(NOTHING)
        words = status_text(status_word(score.status))
        grid.add(plain(name), score_figure(score), words, held, f"{score.signal_count:,}")

    add("as it is", response.actual)
    add("as it would be", response.simulated)
    if response.HasField("score_delta"):
        more = response.simulated.signal_count - response.actual.signal_count
        grid.add(plain("difference"), f"{response.score_delta:+.6f}", plain(""), plain(""), f"{more:+,}")
    return grid


def _print_differences(response: SimulateScoreResponse) -> None:
    from coherence_grpc.cli.views import second_of, status_word

    if not response.differences:
        screen().print(plain("until then the held status would have been the same"), soft_wrap=True)
        return
    whole = ("from", "for", "was", "would have been")
    grid = Grid("from", "to", "for", "was", "would have been", whole=whole, optional=("to",))
    for difference in response.differences[-MOST_LISTED:]:
        grid.add(
            second_of(difference.start_time),
            second_of(difference.end_time),
            render_age(micros(difference.end_time) - micros(difference.start_time)),
            status_text(status_word(difference.actual_status)),
            status_text(status_word(difference.simulated_status)),
        )
    screen().print(grid)
    others = len(response.differences) - MOST_LISTED
    if others > 0:
        more = " and more" if response.differences_truncated else ""
        screen().print(plain(f"… after {others:,} others{more}, which --json lists"), soft_wrap=True)
