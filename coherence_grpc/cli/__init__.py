"""The command `coherence`: everything a person does with the service, through gRPC.

A command's module is imported when the command runs, so that `coherence --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.commands import Commands
from coherence_grpc.cli.failure import INTERRUPTED, failure_of, report

if TYPE_CHECKING:
    from collections.abc import Sequence

BROKEN_PIPE: Final = 141
DEBUG_VARIABLE: Final = "COHERENCE_DEBUG"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(None, "--version", package_name="coherence", prog_name="coherence")
def coherence() -> None:
    """Weighted signals in, one live, explained score per tenant out.

    Exit codes: 0 done · 1 refused by the server, or a check failed · 2 usage or configuration · 3 the server can't be
    reached · 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; every failure is a line or two on stderr, never a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that can't show a character gets its number instead of an error.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = coherence.main(arguments, prog_name="coherence", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except SystemExit:
        # click ends so, and only so, when the reader of a pipe has left.
        return BROKEN_PIPE
    except click.exceptions.NoArgsIsHelpError as shown:
        shown.show()
        return 2
    except Exception as error:
        if DEBUG_VARIABLE in os.environ:
            raise
        return report(failure_of(error), as_json=as_json)
    return code if isinstance(code, int) else 0
