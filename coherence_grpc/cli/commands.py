"""The names of the commands, and where each lives."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

# name → (module, attribute, one line for `coherence --help`), in the order a newcomer meets them.
TABLE: Final = {
    "serve": ("serve", "serve", "Run the service: gRPC, GraphQL and HTTP push."),
    "demo": ("demo", "demo", "Watch a blizzard turn 16 airlines CRITICAL, live."),
    "publish": ("publish", "publish", "Store one signal, or some from JSON lines."),
    "score": ("scores", "score", "Show scores, now or as of a past instant."),
    "explain": ("explain", "explain", "Show which signals push a score down."),
    "history": ("history", "history", "Show a score over time, and when its status changed."),
    "simulate": ("simulate", "simulate", "Show what a score would be; write nothing."),
    "policy": ("policies", "policy", "Show or change the rules of a tenant's score."),
    "recompute": ("recompute", "recompute", "Have a score computed anew."),
    "watch": ("watch", "watch", "Follow tenants live, also over lost connections."),
    "top": ("top", "top", "Show the live portfolio, worst first."),
    "import": ("importing", "import_", "Store many signals from a file, or real flights."),
    "provenance": ("provenance", "provenance", "Show who stored what; verify the ledger."),
    "prune": ("prune", "prune", "Erase signals whose retention has ended."),
    "switch": ("switch", "switch", "Show or turn the runtime switches."),
    "config": ("settings", "config", "Show the configuration and where it comes from."),
    "doctor": ("doctor", "doctor", "Check what the service needs."),
    "migrate": ("migrate", "migrate", "Bring the servers' schemas up to date."),
    "rebuild-scores": ("rebuild", "rebuild_scores", "Recompute a data directory's scores, offline."),
}


class Commands(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the table's order."""
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command itself; None for a name that isn't one."""
        if cmd_name not in TABLE:
            return None
        module, attribute, _ = TABLE[cmd_name]
        command = getattr(import_module(f"coherence_grpc.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above says so
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The table, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in TABLE.items()])
