"""`coherence config`: what the service would run with, and where each value comes from."""

from __future__ import annotations

import click

from coherence_grpc.cli.output import Grid, plain, say_json, screen
from coherence_grpc.cli.serve import setting_options, settings_of
from coherence_grpc.cli.session import json_option
from coherence_grpc.config import SETTINGS


@click.command()
@setting_options
@json_option
def config(as_json: bool, **flags: object) -> None:
    """Show the effective configuration, and whether each value is a default, a flag's or the environment's.

    It takes the flags of `coherence serve`, and runs nothing.
    """
    rows = settings_of(flags).rows()
    meanings = {setting.name: setting.meaning for setting in SETTINGS}
    if as_json:
        say_json({name: {"value": value, "source": source} for name, value, source in rows})
        return
    grid = Grid("setting", "value", "source", "meaning", whole=("setting",), optional=("meaning",))
    for name, value, source in rows:
        grid.add(name, plain(value), source, meanings[name])
    screen().print(grid)
