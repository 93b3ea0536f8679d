"""``shoal replay``: what was written down, played again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click

from . import history
from .trial import Outcome, played

EXIT_DIFFERENT = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(file: Path, as_json: bool) -> int:
    """Play FILE, a transcript that `shoal simulate` wrote, again. Exit status 1 if it still breaks a promise."""
    logging.disable(logging.CRITICAL)
    transcript = history.read(file)
    outcome = played(transcript.seed, transcript.shape, transcript.events)
    if as_json:
        found = {"seed": outcome.seed, "events": len(outcome.events), "broke": outcome.broke, "why": outcome.why}
        click.echo(json.dumps({**found, "recorded": {"broke": transcript.broke, "commit": transcript.commit}}))
    else:
        _tell(transcript, outcome)
    return EXIT_DIFFERENT if outcome.broke else 0


def _tell(transcript: history.Transcript, outcome: Outcome) -> None:
    click.echo(history.told(transcript.events))
    if transcript.broke:
        click.echo(f"When it was recorded (commit {transcript.commit}), this was broken: {transcript.broke}.")
    click.echo(f"Now broken: {outcome.broke}.\n{outcome.why}" if outcome.broke else "Now no promise is broken.")


def main(arguments: list[str]) -> int:
    result: int = command.main(arguments, prog_name="shoal replay", standalone_mode=False) or 0
    return result
