"""`coherence switch`: the runtime switches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from coherence_grpc.cli.failure import USAGE, Failure
from coherence_grpc.cli.output import Grid, plain, say_json, screen
from coherence_grpc.cli.session import json_option
from coherence_grpc.config import SWITCHES, edit_switches, read_switches
from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_VARIABLE: Final = "COHERENCE_DATA"
FILE_VARIABLE: Final = "COHERENCE_RUNTIME_FILE"
DEFAULT_DATA: Final = "data"
TAKES_EFFECT: Final = "a running service takes it up within 5 s"


@click.command()
@click.argument("name", required=False)
@click.argument("value", required=False, metavar="[VALUE]")
@click.option(
    "--data", type=click.Path(path_type=Path), help=f"The service's data directory.  [{DATA_VARIABLE}; default: data]"
)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help=f"The runtime file.  [{FILE_VARIABLE}; default: DATA/runtime.json]",
)
@json_option
def switch(name: str | None, value: str | None, data: Path | None, file: Path | None, as_json: bool) -> None:
    """Show the runtime switches, or turn one: `coherence switch free_text on`.

    They are kept in one file, which a running service reads again every 5 s.
    """
    path = runtime_file(data, file)
    try:
        if name in {None, "list"}:
            _show(path, read_switches(path), as_json=as_json)
        elif value is None:
            _show(path, {name: _one(path, name)}, as_json=as_json)
        else:
            _turn(path, name, value, as_json=as_json)
    except SettingsInvalid as invalid:
        raise Failure(invalid.message, f"the switches are {', '.join(SWITCHES)}", exit_code=USAGE) from None


def runtime_file(data: Path | None, file: Path | None) -> Path:
    """The file as named, or as the environment names it, or the data directory's."""
    if file is not None:
        return file
    if data is None and (named := os.environ.get(FILE_VARIABLE)):
        return Path(named)
    return (data or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)) / "runtime.json"


def _one(path: Path, name: str) -> str:
    values = read_switches(path)
    if name not in values:
        message = f"there is no switch {name!r}"
        raise SettingsInvalid(message)
    return values[name]


def _turn(path: Path, name: str, value: str, *, as_json: bool) -> None:
    if not path.parent.is_dir():
        message = f"{path.parent} is not there, so no service has its switches in it"
        raise Failure(message, f"name the service's directory with --data or {DATA_VARIABLE}", exit_code=USAGE)
    values = edit_switches(path, {name: value})
    if as_json:
        say_json({"file": str(path), "switches": dict(values)})
    else:
        screen().print(plain(f"{name} is {values[name]}: {TAKES_EFFECT} ({path})"), soft_wrap=True)


def _show(path: Path, values: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        say_json({"file": str(path), "switches": dict(values)})
        return
    grid = Grid("switch", "value", "of", "meaning", whole=("switch",), optional=("of",))
    for name, value in values.items():
        grid.add(name, value, " | ".join(SWITCHES[name].values), SWITCHES[name].meaning)
    screen().print(grid)
    screen().print(plain(f"in {path}{'' if path.exists() else ' (not there: defaults)'}"), soft_wrap=True)
