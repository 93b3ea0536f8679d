"""The ``shoal`` command."""

from __future__ import annotations

import asyncio
import difflib
import errno
import importlib
import json
import os
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from shoal import __version__
from shoal.errors import ShoalError
from shoal.shell.layout import on_screen
from shoal.shell.options import connection_options

DATA_DIR = "/var/lib/shoal"
LISTEN = "127.0.0.1:9443"
EXIT_REFUSED = 1
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DATA_DIR,
    show_default=True,
    envvar="SHOAL_DATA_DIR",
    help="Where this Shoal keeps everything.",
)


ELSEWHERE = {
    "apply": ("shoal.shell.declare:apply", "Make objects as files say; said again, nothing changes."),
    "backup": ("shoal.shell.backup:command", "Everything in one sealed file."),
    "capture": ("shoal.shell.capture:command", "Packets of a virtual service, from all its engines into one file."),
    "cutover": (
        "shoal.shell.cutover:command",
        "A virtual service moves here from another controller, or back by itself.",
    ),
    "delete": ("shoal.shell.declare:delete", "Delete the objects that files name."),
    "diff": ("shoal.shell.declare:diff", "What `shoal apply` would change."),
    "drill": ("shoal.drill.command:command", "A failover on purpose: foretold, guarded, watched, undone."),
    "export": ("shoal.shell.transfer:export_command", "The whole configuration as a file."),
    "get": ("shoal.shell.declare:get", "Objects as a file that `shoal apply` takes."),
    "import": ("shoal.shell.transfer:import_command", "An exported configuration taken over, one of Avi's too."),
    "preflight": ("shoal.shell.preflight:command", "What the network lets engines do, and which mode follows."),
    "replay": ("shoal.simulator.replay:command", "Play a simulated run, or the decisions of a real one, again."),
    "top": ("shoal.shell.top:command", "Groups, engines, virtual services and their load, live."),
    "shell": ("shoal.shell.main:command", "The operator's shell: show, configure, scaleout ..."),
    "simulate": ("shoal.simulator.command:command", "Random faults and edits in virtual time."),
    "whatif": ("shoal.shell.whatif:command", "Failures and changes on paper: what goes down, what is left."),
}
"""Commands that are loaded when they are called: (module and name, its line in the list of commands)."""

SECTIONS = {
    "Running": ("up", "status", "down", "backup", "restore"),
    "Operating": ("shell", "top", "incident", "capture", "techsupport"),
    "Objects as files": ("get", "diff", "apply", "delete", "export", "import", "cutover"),
    "Before it happens": ("preflight", "whatif", "drill"),
    "Help": ("manual", "completion"),
    "Trying it out": ("demo", "certify", "simulate", "replay"),
}


class Commands(click.Group):
    """Its own commands, and those of `ELSEWHERE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = ELSEWHERE[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0][:40], self.list_commands(ctx), n=1)
            hint = f"Did you mean {near[0]}?" if near else "`shoal --help` lists them."
            raise click.UsageError(f"There is no command {args[0][:40]}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = [name for names in SECTIONS.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in named]
        for title, names in {**SECTIONS, "Others": others}.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, self.line_of(name)) for name in names])

    def line_of(self, name: str) -> str:
        """What a command is for, without loading it."""
        own = self.commands.get(name)
        return own.get_short_help_str(200) if own else ELSEWHERE[name][1]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shoal")
def cli() -> None:
    """Shoal: a software-defined load balancer with elastic high availability.

    Start with `shoal up`, talk to it with `shoal shell`, stop it with `shoal down`.
    """


@cli.command()
@data_dir_option
@click.option("--listen", default=LISTEN, show_default=True, metavar="HOST:PORT", help="Where the API answers (HTTPS).")
@click.option(
    "--vip-network",
    "vip_networks",
    metavar="CIDR",
    multiple=True,
    help="Addresses for virtual services, one IPv4 and one IPv6 network (default: derived from the data directory).",
)
@click.option("--detach", is_flag=True, help="Return when ready and go on in the background.")
@click.option(
    "--probe/--no-probe", default=True, show_default=True, help="Ask every VIP all the time, as a client would."
)
@click.option(
    "--may-ask",
    metavar="CIDR",
    multiple=True,
    help="Let webhooks, syslog, ACME and OCSP go there though it is this machine itself, or link-local.",
)
def up(
    data_dir: Path, listen: str, vip_networks: tuple[str, ...], detach: bool, probe: bool, may_ask: tuple[str, ...]
) -> None:
    """Run the controller and its engines on this machine (as root).

    SHOAL_ADMIN_PASSWORD sets the first admin password; without it one is made and printed once.
    """
    from shoal.system import Options, launch, run

    _needs_root("up")
    password = os.environ.get("SHOAL_ADMIN_PASSWORD")
    options = Options.parse(data_dir, listen, vip_networks, password, probe=probe, may_ask=may_ask)
    console = Console(stderr=True, highlight=False)
    if detach:
        launch(options, console)
    else:
        run(options, console)


@cli.command()
@data_dir_option
@click.option("--purge", is_flag=True, help="Remove the data directory too: configuration, events, certificates.")
def down(data_dir: Path, purge: bool) -> None:
    """Stop it and remove every namespace, process and rule it made. The configuration stays."""
    from shoal.system import stop

    _needs_root("down")
    stop(data_dir, Console(stderr=True, highlight=False), purge=purge)


@cli.command()
@data_dir_option
@connection_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(data_dir: Path, as_json: bool, **connection: str | None) -> None:
    """Whether it runs, and how it stands. Exit status 0 = ready, 1 = not.

    Of this machine's Shoal; of another one where --controller, SHOAL_CONTROLLER or ~/.config/shoal/config.toml says so.
    With a password (SHOAL_PASSWORD, or that file) also groups, virtual services and what is wrong with them.
    """
    from shoal.shell import status as remote
    from shoal.system import status_of

    url = connection["controller"]
    found = remote.reached(url) if url else {**status_of(data_dir)}
    rows = [
        (key, value if not isinstance(value, list) else ", ".join(map(str, value)) or "-")
        for key, value in found.items()
    ]
    if found["ready"] and connection["password"]:
        try:
            overview = remote.overview(found["url"], connection)
            found["overview"] = remote.as_document(overview)
            rows += remote.told(overview)
        except ShoalError as error:  # it runs all the same
            found["overview"] = {"error": str(error)}
            rows.append(("services", f"not known: {error}"))
    if as_json:
        click.echo(json.dumps(found))
    else:
        for key, value in rows:
            click.echo(on_screen(f"{key:<12} {value}"))
    sys.exit(0 if found["ready"] else EXIT_REFUSED)


@cli.command()
@data_dir_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the file goes; default: shoal-techsupport-TIME.tar.gz here.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def techsupport(data_dir: Path, output: Path | None, as_json: bool) -> None:
    """One file with logs, configuration, events and the machine's state, and no secret in it."""
    from shoal.techsupport import collect

    output = output or Path(time.strftime("shoal-techsupport-%Y%m%d-%H%M%S.tar.gz", time.gmtime()))
    parts = collect(data_dir.resolve(), output)
    said = f"{output}: {len(parts)} files, secrets left out. MANIFEST.txt in it says what is there and what is not."
    click.echo(json.dumps({"file": str(output), "parts": parts}) if as_json else on_screen(said))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
def restore(file: Path, data_dir: Path) -> None:
    """A backup becomes a new data directory, on this machine or another one; then `shoal up` serves what it holds.

    The passphrase comes from SHOAL_PASSPHRASE, or is typed. End the Shoal that the backup is of first: two that
    announce the same addresses disturb each other.
    """
    from shoal.shell.transfer import passphrase
    from shoal.system import restore as restored

    contents = restored(file, passphrase(), data_dir)
    objects = sum(key.startswith("/intent/") for key, _ in contents.records)
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(contents.made_at))
    click.echo(f"{objects} objects of {made} are in {data_dir}. Start it with shoal up --data-dir {data_dir}.")


@cli.command()
@data_dir_option
@connection_options
@click.option("--since", default="60s", show_default=True, help="How far back: seconds, or 90s, 10m, 1h.")
@click.option("--virtualservice", default="", help="Only what concerns this one (name or uuid).")
@click.option("--all", "everything", is_flag=True, help="Also what was before the incident's first sign.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def incident(
    data_dir: Path, since: str, virtualservice: str, everything: bool, as_json: bool, **connection: str | None
) -> None:
    """What happened, in milliseconds: what engines recorded, what a client saw, what the controller decided.

    Zero is the first sign of the last incident within --since.
    """
    from shoal.shell.incident import fetch, show

    url = connection["controller"] or _url_of(data_dir)
    found = fetch(url, connection["user"] or "", connection["password"], connection["ca"], since, virtualservice)
    if as_json:
        click.echo(json.dumps(found))
    else:
        show(found, Console(highlight=False), everything=everything)


def _url_of(data_dir: Path) -> str:
    from shoal.system import found

    running = found(data_dir)
    if running is None:
        raise click.ClickException(f"No controller runs on {data_dir}. Give --data-dir or --controller.")
    return running.url


@cli.command()
@click.option("--once", is_flag=True, help="Stop after the failover and clean up; the exit status tells.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object, as the last line.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Default: a directory of its own.")
def demo(once: bool, as_json: bool, data_dir: Path | None) -> None:
    """The main job on real traffic: two virtual services, their engines killed, the outage measured."""
    from shoal.lab.demo import main as demo_main

    _needs_root("demo")
    sys.exit(demo_main(once=once, as_json=as_json, data_dir=data_dir))


@cli.command()
@click.option("--quick", is_flag=True, help="A tenth of everything, in half a minute.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object, as the last line.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Default: a directory of its own.")
@click.option("--seed", type=int, help="Of the random changes; default: another one each time (it is stored).")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the result goes; default: certify.json in the data directory, else shoal-certify-SEED.json here.",
)
def certify(quick: bool, as_json: bool, data_dir: Path | None, seed: int | None, output: Path | None) -> None:
    """Show that changes drop nothing: random changes, reloads, scaling, migrations, engine upgrades under load."""
    from shoal.lab.certify import main as certify_main

    _needs_root("certify")
    sys.exit(certify_main(quick=quick, as_json=as_json, data_dir=data_dir, seed=seed, output=output))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """A script that makes a shell complete `shoal`: eval "$(shoal completion bash)"."""
    from shoal.shell.manual import completion as script

    click.echo(script(cli, shell))


@cli.command()
@click.argument("name", required=False)
@click.option(
    "--install",
    "prefix",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="PREFIX",
    help="Write all man pages and shell completions below PREFIX/share, such as /usr/local.",
)
def manual(name: str | None, prefix: Path | None) -> None:
    """The man page of `shoal`, or of one of its commands: shoal manual shell."""
    from shoal.shell.manual import install, pages, show, what_looks_there

    if prefix is not None:
        files = install(cli, prefix / "share")
        click.echo("\n".join([f"{len(files)} files are below {prefix / 'share'}.", *what_looks_there(prefix)]))
        return
    found = pages(cli)
    page = found.get(f"shoal-{name}.1" if name else "shoal.1")
    if page is None:
        known = [file.removeprefix("shoal-").removesuffix(".1") for file in found]
        near = difflib.get_close_matches(str(name)[:40], known, n=1)
        raise click.ClickException(
            f"There is no page {str(name)[:40]}. " + (f"Did you mean {near[0]}?" if near else "")
        )
    show(page)


def _needs_root(command: str) -> None:
    if os.geteuid() != 0:
        raise click.ClickException(
            f"`shoal {command}` makes network namespaces and needs root. Try: sudo shoal {command}"
        )


def main() -> None:
    """Entry point. Errors are told in words, never as a traceback."""
    try:
        result = cli(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ShoalError as error:
        click.echo(on_screen(f"Error: {error}", sys.stderr), err=True)
        sys.exit(EXIT_REFUSED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            on_screen(f"Error: {where}{error.strerror}. Free space there, or mend the disk.", sys.stderr), err=True
        )
        sys.exit(EXIT_REFUSED)
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    except asyncio.CancelledError:
        sys.exit(130)
