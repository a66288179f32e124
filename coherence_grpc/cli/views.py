"""The API's messages as JSON objects and as rows of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1.ingest_pb2 import Outcome
from coherence.v1.score_pb2 import (
    STATUS_UNSPECIFIED,
    TREND_DOWN,
    TREND_FLAT,
    TREND_UNSPECIFIED,
    TREND_UP,
    ScoreSource,
    Status,
    Trend,
)
from coherence_grpc.cli.instants import micros, render, render_age
from coherence_grpc.cli.output import NOTHING, Grid, plain, status_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.text import Text

    from coherence.v1.score_pb2 import Score, ScorePoint
    from coherence.v1.signal_pb2 import Signal, SignalKey, StoredSignal

STATUSES: Final = ("HEALTHY", "WARN", "CRITICAL", "UNKNOWN")
ARROWS: Final = {TREND_UNSPECIFIED: "", TREND_UP: "▲", TREND_DOWN: "▼", TREND_FLAT: "▬"}


def status_word(status: Status.ValueType) -> str:
    """The status without its prefix."""
    return Status.Name(status).removeprefix("STATUS_")


def held_word(score: Score) -> str | None:
    """The status that is shown and alerted on; None where nobody can say, as of a past instant."""
    return status_word(score.held_status) if score.held_status != STATUS_UNSPECIFIED else None


def statuses_text(score: Score) -> Text:
    """The status in its colour, with the one that is held where that is another."""
    text = status_text(status_word(score.status))
    held = held_word(score)
    if held is not None and score.held_status != score.status:
        text.append(" held ", "dim").append_text(status_text(held))
    return text.append(" stale" if score.stale else "", "magenta")


def outcome_word(outcome: Outcome.ValueType) -> str:
    """The outcome without its prefix."""
    return Outcome.Name(outcome).removeprefix("OUTCOME_")


def instant_of(stamp: Timestamp | None) -> str | None:
    """RFC 3339, or None for a field that isn't set."""
    return None if stamp is None else render(micros(stamp))


def score_record(score: Score) -> dict[str, object]:
    """A score as JSON shows it."""
    return {
        "tenant_id": score.tenant_id,
        "score": score.score if score.HasField("score") else None,
        "status": status_word(score.status),
        "held_status": held_word(score),
        "held_since_time": instant_of(score.held_since_time if score.HasField("held_since_time") else None),
        "trend": Trend.Name(score.trend).removeprefix("TREND_") if score.trend else None,
        "signal_count": score.signal_count,
        "weight_sum": score.weight_sum,
        "window_start_time": instant_of(score.window_start_time),
        "window_end_time": instant_of(score.window_end_time),
        "data_time": instant_of(score.data_time if score.HasField("data_time") else None),
        "data_age_seconds": data_age_s(score),
        "valid_until_time": instant_of(score.valid_until_time if score.HasField("valid_until_time") else None),
        "as_of_seq": score.as_of_seq,
        "head_hash": score.head_hash.hex(),
        "version": score.version,
        "source": ScoreSource.Name(score.source).removeprefix("SCORE_SOURCE_"),
        "stale": score.stale,
        "cursor": score.cursor or None,
    }


def data_age_s(score: Score) -> float | None:
    """Seconds between the newest signal in the window and the window's end, both the server's; None without one."""
    if not score.HasField("data_time"):
        return None
    return (micros(score.window_end_time) - micros(score.data_time)) / 1e6


def score_figure(score: Score | ScorePoint) -> str:
    """The score with its six decimals, or a dash."""
    return f"{score.score:.6f}" if score.HasField("score") else NOTHING


def data_age(score: Score) -> str:
    """The data's age as people say it, or a dash."""
    age = data_age_s(score)
    return NOTHING if age is None else render_age(round(age * 1e6))


def scores_table(scores: Iterable[Score], *, title: str | None = None) -> Grid:
    """One row a tenant: score, trend, statuses, signals, data age, and until when time alone won't change it."""
    grid = Grid(
        *("tenant", "score", "", "status", "signals", "data age", "valid until"),
        right=("score", "signals"),
        whole=("", "status", "data age", "valid until"),
        optional=("valid until", "data age", "signals"),
        title=title,
    )
    for score in scores:
        grid.add(
            plain(score.tenant_id),
            score_figure(score),
            ARROWS[score.trend],
            statuses_text(score),
            f"{score.signal_count:,}",
            data_age(score),
            second_of(score.valid_until_time) if score.HasField("valid_until_time") else NOTHING,
        )
    return grid


def second_of(stamp: Timestamp) -> str:
    """The instant to the second, for tables."""
    return render(micros(stamp) // 1_000_000 * 1_000_000)


def key_record(key: SignalKey) -> dict[str, object]:
    """A signal's key as JSON shows it."""
    return {
        "tenant_id": key.tenant_id,
        "source": key.source,
        "signal_id": key.signal_id,
        "ts": instant_of(key.ts),
    }


def signal_record(signal: Signal) -> dict[str, object]:
    """A signal as JSON shows it, and as `coherence publish` reads it."""
    return {
        "tenant_id": signal.tenant_id,
        "source": signal.source,
        "signal_id": signal.signal_id,
        "type": signal.type,
        "value": signal.value,
        "weight": signal.weight,
        "ts": instant_of(signal.ts),
    }


def stored_record(stored: StoredSignal) -> dict[str, object]:
    """A stored signal as JSON shows it."""
    return {
        "signal": signal_record(stored.signal),
        "seq": stored.seq,
        "provenance_id": stored.provenance_id,
        "recorded_time": instant_of(stored.recorded_time),
        "backfill": stored.backfill,
    }
