"""`coherence rebuild-scores`: offline, when the score file is lost or does not follow from the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from coherence_grpc.cli.failure import REFUSED, Failure
from coherence_grpc.cli.output import plain, say_json, screen
from coherence_grpc.cli.serve import settings_of
from coherence_grpc.cli.session import json_option


@click.command("rebuild-scores")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False), help="The directory."
)
@json_option
def rebuild_scores(data: Path, as_json: bool) -> None:
    """Empty the score store that a data directory and the settings name, while nothing serves it.

    The scores are computed anew from the signals. Both epochs are raised: cursors issued so far expire, and say so. No
    signal is touched.
    """
    from coherence_grpc.app.rebuilding import rebuild
    from coherence_grpc.errors import CoherenceError

    try:
        epochs = asyncio.run(rebuild(settings_of({"data": data})))
    except CoherenceError as refused:
        raise Failure(refused.message, exit_code=REFUSED) from None
    if as_json:
        say_json({"data": str(data), "signal_epoch": epochs.signals, "score_epoch": epochs.scores})
    else:
        said = f"{data}: scores emptied, epochs now {epochs.signals} (signals) and {epochs.scores} (scores)"
        screen().print(plain(f"{said}; `coherence serve --data {data}` computes them anew"), soft_wrap=True)
