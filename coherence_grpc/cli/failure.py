"""How a command fails: what is wrong, the next step, and an exit code that means something."""

from __future__ import annotations

import errno
import json
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from coherence_grpc.client import Refusal

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

# What to do about a refusal, by its reason; the server's message names the field.
NEXT_STEP: Final = {
    "SIGNAL_INVALID": "correct the fields named above and send it again",
    "SCORE_POLICY_INVALID": "correct the rules named above and send them again",
    "SCORE_POLICY_UNKNOWN": "take an etag from `coherence policy versions`",
    "ETAG_MISMATCH": "look at `coherence policy get`, decide anew and set it again",
    "CURSOR_FOREIGN": "start without --after",
    "CURSOR_EXPIRED": "start again with --from earliest, or without --after",
    "TOKEN_MISSING": "call it on its loopback address, or send a token",
    "SIGNAL_KEY_CONFLICT": "publish under another --id or --ts, or with --replace; the stored signal is untouched",
    "REQUEST_ID_REUSED": "choose another --request-id",
    "TS_OUTSIDE_RETENTION": "use a longer --retention (unlimited, where the server allows it)",
    "WINDOW_INCOMPLETE": "ask for an instant whose 24 hours are still stored",
    "PROVENANCE_UNKNOWN": "take the provenance id from a publish result or from `coherence explain`",
    "STORAGE_FULL": "make room on the server's disk, or raise --max-store-bytes",
    "INTERNAL": "look for the error id in the server's log",
}


class Failure(Exception):
    """A command ends here: one line says what is wrong, a second what to do next."""

    def __init__(
        self, message: str, next_step: str = "", *, exit_code: int = REFUSED, refusal: Refusal | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.exit_code = exit_code
        self.refusal = refusal


def refused(refusal: Refusal, address: str) -> Failure:
    """The failure that a refused call amounts to."""
    if not refusal.reason and refusal.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        what = "can't be reached" if refusal.code == "UNAVAILABLE" else "does not answer"
        return Failure(
            f"the server at {address} {what}",
            "start it with `coherence serve`, or name another with --address or COHERENCE_GRPC",
            exit_code=UNREACHABLE,
            refusal=refusal,
        )
    return Failure(
        f"{refusal.reason or refusal.code}: {said(refusal)}", next_step_of(refusal), exit_code=REFUSED, refusal=refusal
    )


def said(refusal: Refusal) -> str:
    """The refusal in one line, each field named once."""
    fields = [f"{path}: {problem}" if path else problem for path, problem in refusal.fields]
    missing = [text for text, field in zip(fields, refusal.fields, strict=True) if field.problem not in refusal.message]
    return printable("; ".join([refusal.message, *missing] if refusal.message else fields))


def next_step_of(refusal: Refusal) -> str:
    """What the caller can do about it; '' when the message says it all."""
    if refusal.retry_after_s is not None:
        return f"try again in {refusal.retry_after_s:g} s"
    return NEXT_STEP.get(refusal.reason, "")


def failure_of(error: Exception) -> Failure:
    """Any exception as a failure; one that nobody foresaw is a fault of ours."""
    match error:
        case Failure():
            return error
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "coherence"
            return Failure(error.format_message(), f"see `{path} --help`", exit_code=USAGE)
        case click.ClickException():
            return Failure(error.format_message(), exit_code=USAGE)
        case OSError():
            name = f"{error.filename}: " if error.filename else ""
            return Failure(f"{name}{error.strerror or error}", _remedy(error), exit_code=USAGE)
    return Failure(
        f"a fault of this command: {type(error).__name__}: {error}",
        "please report it, with what COHERENCE_DEBUG=1 shows",
    )


def _remedy(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room on that disk"
    return "check the path and its permissions" if error.filename else ""


def report(failure: Failure, *, as_json: bool) -> int:
    """Print the failure on stderr and return its exit code."""
    if as_json:
        print(json.dumps({"error": as_record(failure)}), file=sys.stderr)
        return failure.exit_code
    print(f"error: {printable(failure.message)}", file=sys.stderr)
    if failure.next_step:
        print(f"next:  {printable(failure.next_step)}", file=sys.stderr)
    return failure.exit_code


def as_record(failure: Failure) -> dict[str, object]:
    """The failure as JSON shows it."""
    record: dict[str, object] = {"message": failure.message, "next_step": failure.next_step}
    if failure.refusal is not None:
        record |= refusal_record(failure.refusal)
    return record


def refusal_record(refusal: Refusal) -> dict[str, object]:
    """A refusal as JSON shows it."""
    return {
        "code": refusal.code,
        "reason": refusal.reason,
        "message": refusal.message,
        "fields": [{"path": path, "problem": problem} for path, problem in refusal.fields],
        "metadata": dict(refusal.metadata),
        "retry_after_s": refusal.retry_after_s,
    }


def printable(text: str, *, limit: int = 1_000) -> str:
    """The text on one line, without what a terminal would obey, and not endless."""
    clean = "".join(char if char.isprintable() else " " if char in "\n\t" else f"\\u{ord(char):04x}" for char in text)
    return clean if len(clean) <= limit else f"{clean[:limit]}… ({len(clean)} characters)"
