"""``shoal backup``: everything in one sealed file, here or kept at the controller."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from .client import Client
from .options import run, with_client
from .transfer import WITHIN_S, passphrase, write_whole


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--config", metavar="NAME", help="Kept at the controller, as this BackupConfiguration says.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(client: Client, file: Path | None, config: str | None, as_json: bool) -> int:
    """Everything in one file, sealed by a passphrase: configuration, accounts, keys, certificates, events.

    FILE defaults to shoal-DATE.shoalbackup here. The passphrase comes from SHOAL_PASSPHRASE, or is typed; nobody can open
    the file without it. `shoal restore FILE` makes a data directory of it, on any machine.
    """
    if config and file:
        raise click.UsageError("FILE does not go with --config: that one is kept at the controller.")
    words = "" if config else passphrase(again=True)
    client.login()
    if config:
        kept = client.call("POST", "configuration/backup", {"backup_config": config}, within_s=WITHIN_S)
        click.echo(json.dumps(kept) if as_json else f"{kept['file_name']} is kept at the controller.")
        return 0
    data = client.binary("configuration/backup", {"passphrase": words}, within_s=WITHIN_S)
    file = file or Path(f"shoal-{time.strftime('%Y%m%d-%H%M%S')}.shoalbackup")
    write_whole(file, data)
    said = f"{len(data)} bytes in {file}. Keep the passphrase elsewhere."
    click.echo(json.dumps({"file": str(file), "bytes": len(data)}) if as_json else said)
    return 0


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    return run(command, "shoal backup", arguments)
