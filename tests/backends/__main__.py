"""`python -m tests.backends up|down|env|fetch`: the servers of development.

Variables go to stdout, as lines that a shell can evaluate; what is being done goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tests.backends.parts import NAMES, Missing
from tests.backends.server import PARTS, DidNotStart, start
from tests.backends.state import locked, state_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.backends.server import Server
    from tests.backends.state import State


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all that was asked for is there."""
    given = _parser().parse_args(arguments)
    if given.command == "fetch":
        return int(not _all_fetched(given.only))
    with locked(Path(given.state)) as state:
        if given.command == "down":
            return _down(state, given.only)
        state.forget_ended()
        complete = given.command == "env" or _up(state, given.only)
        running = [server for server in state.servers if server.part in given.only]
    if given.command == "env" and not running:
        _say("no server is running; start them with `make backends`")
        return 1
    _print(running, as_json=given.json)
    return int(not complete)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.backends", description="Real servers on loopback ports.")
    parser.add_argument("command", choices=("up", "down", "env", "fetch"), help="fetch: install and download, no start")
    parser.add_argument("--json", action="store_true", help="the variables as one JSON object")
    parser.add_argument("--only", type=_parts, default=NAMES, metavar="PART,...", help=f"some of {','.join(NAMES)}")
    parser.add_argument("--state", default=state_home() / "backends", metavar="DIR", help="where it is kept what runs")
    return parser


def _parts(text: str) -> Sequence[str]:
    parts = text.split(",")
    unknown = [part for part in parts if part not in NAMES]
    if unknown:
        message = f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}"
        raise argparse.ArgumentTypeError(message)
    return parts


def _up(state: State, parts: Sequence[str]) -> bool:
    """Start what is not running yet, all at once; False when one is missing."""
    due = [part for part in parts if part not in {server.part for server in state.servers}]
    ready = [part for part in due if _fetched(part)]
    with ThreadPoolExecutor(len(NAMES)) as pool:
        return all([len(ready) == len(due), *pool.map(partial(_started, state), ready)])


def _all_fetched(parts: Sequence[str]) -> bool:
    """Every part is tried: all that is missing is said at once."""
    return len([part for part in parts if _fetched(part)]) == len(parts)


def _fetched(part: str) -> bool:
    try:
        PARTS[part].prepare(_say)
    except Missing as missing:
        _say(f"missing: {missing}")
        return False
    return True


def _started(state: State, part: str) -> bool:
    begun = monotonic()
    _say(f"{part}: starting ...")
    try:
        server = start(part, state.note)
    except DidNotStart as failure:
        _say(str(failure))
        return False
    _say(f"{part}: answers on 127.0.0.1:{server.port} after {monotonic() - begun:.1f} s")
    return True


def _down(state: State, parts: Sequence[str]) -> int:
    ours = [server for server in state.servers if server.part in parts]
    for server in ours:
        state.end(server)
        _say(f"{server.part}: ended, data removed")
    if not ours:
        _say("no server of ours is running")
    return 0


def _print(servers: Sequence[Server], *, as_json: bool) -> None:
    variables = {name: value for server in servers for name, value in server.variables.items()}
    if as_json:
        print(json.dumps(variables))  # noqa: T201 - this is a command
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - this is a command


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")  # one write: several start at once
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
