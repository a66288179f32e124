"""`coherence serve`: the service itself."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.config import SETTINGS, load_settings
from coherence_grpc.errors import CoherenceError, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.config import Setting, Settings


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for every setting; one that isn't given is None, so that the environment can be asked."""
    for setting in reversed(SETTINGS):
        if setting.flag:
            command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = f"{setting.meaning}.  [{setting.variable}; default: {setting.default}]".replace("; default: ]", "]")
    if setting.default in {"true", "false"}:
        return click.option(f"{setting.flag}/--no{setting.flag[1:]}", setting.name, default=None, help=shown)
    return click.option(setting.flag, setting.name, metavar="TEXT", help=shown)


def settings_of(flags: dict[str, object]) -> Settings:
    """The settings of these flags and the environment.

    Raises:
        Failure: they can't be served; the message names each wrong one, and what to write instead.
    """
    try:
        return load_settings(flags, os.environ)
    except SettingsInvalid as invalid:
        raise Failure(invalid.message, "see `coherence serve --help`", exit_code=USAGE) from None


@click.command()
@setting_options
@click.option("--json", "as_json", is_flag=True, help='Print one ready line as JSON: {"grpc": …, "http": …}.')
@click.option("--lifeline-fd", type=int, hidden=True, help="Drain when this pipe's other end is closed.")
def serve(as_json: bool, lifeline_fd: int | None, **flags: object) -> int:
    """Run the service: the backbone on gRPC, and the subgraph with GraphQL and HTTP push beside it.

    It listens on this machine only, keeps everything in one directory, and prints one line with its addresses when it
    is ready. Port 0 picks a free port. Ctrl-C drains: what is under way is finished, streams end with a cursor.
    """
    settings = settings_of(flags)
    if lifeline_fd is not None:
        _hold(lifeline_fd)
    return _serve(settings, as_json=as_json)


def _hold(lifeline_fd: int) -> None:
    """Ask this process to end when its parent has."""

    def watch() -> None:
        os.read(lifeline_fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _serve(settings: Settings, *, as_json: bool) -> int:
    from coherence_grpc.app import serve as run

    try:
        return run(settings, as_json=as_json)
    except CoherenceError as refused:
        raise Failure(refused.message, exit_code=USAGE) from None
