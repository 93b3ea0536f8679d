"""Man pages and shell completion, made from the commands themselves: ``shoal manual``, ``shoal completion``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from shoal import __version__

from .commands import COMMANDS, GROUPS
from .session import EDIT_HELP
from .settings import KNOWN

SHELLS = {
    "bash": "bash-completion/completions/shoal",
    "zsh": "zsh/site-functions/_shoal",
    "fish": "fish/vendor_completions.d/shoal.fish",
}
"""Shell -> where it looks, below ``share``."""
ZSH_CALLED = ("$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _shoal")
"""How zsh's script knows that it is called, and is not read: what click asks holds for the first call only."""
USUAL = (Path("/usr"), Path("/usr/local"))
FILES = {
    "~/.config/shoal/config.toml": f"Settings: {', '.join(KNOWN)}.",
    "/var/lib/shoal": "What a controller on this machine keeps; --data-dir names another place.",
}
VARIABLES = {
    "SHOAL_CONTROLLER": "Where the API is.",
    "SHOAL_USER, SHOAL_PASSWORD": "Who asks.",
    "SHOAL_TENANT": "Where to work.",
    "SHOAL_CA": "Verify the controller by this CA.",
    "SHOAL_DATA_DIR": "Where this machine's Shoal keeps everything.",
    "NO_COLOR": "No colours.",
}


def pages(cli: click.Group) -> dict[str, str]:
    """File name -> troff, of ``shoal`` and each of its commands."""
    with click.Context(cli, info_name="shoal") as ctx:
        commands = [(name, cli.get_command(ctx, name)) for name in cli.list_commands(ctx)]
        found = {"shoal.1": "\n".join(_whole(cli, ctx, [(name, c) for name, c in commands if c])) + "\n"}
        for name, command in commands:
            if command is not None:
                found[f"shoal-{name}.1"] = "\n".join(_page(name, command, ctx)) + "\n"
    return found


def _head(name: str, summary: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" "1" "" "Shoal {__version__}" "Shoal"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary)}"


def _whole(cli: click.Group, ctx: click.Context, commands: list[tuple[str, click.Command]]) -> Iterator[str]:
    yield from _head("shoal", "a software-defined load balancer with elastic high availability")
    yield from (
        ".SH SYNOPSIS",
        ".B shoal",
        "COMMAND [OPTIONS] ...",
        ".SH DESCRIPTION",
        *_prose(cli.help or ""),
        ".SH COMMANDS",
    )
    for name, command in commands:
        yield from (".TP", f".BR shoal\\-{_text(name)} (1)", _text(command.get_short_help_str(300)))
    yield from _listed("ENVIRONMENT", VARIABLES)
    yield from _listed("FILES", FILES)


def _page(name: str, command: click.Command, above: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=f"shoal {name}", parent=None) as ctx:
        yield from _head(f"shoal-{name}", command.get_short_help_str(300).rstrip("."))
        usage = " ".join(command.collect_usage_pieces(ctx))
        yield from (
            ".SH SYNOPSIS",
            f".B shoal {_text(name)}",
            _text(usage),
            ".SH DESCRIPTION",
            *_prose(command.help or ""),
        )
        records = [record for p in command.get_params(ctx) if (record := p.get_help_record(ctx))]
        if records:
            yield ".SH OPTIONS"
            for option, help in records:
                yield from (".TP", f".B {_text(option)}", _text(help))
    if name == "shell":
        yield from _shell()
    yield from _listed("ENVIRONMENT", VARIABLES)
    yield from (".SH SEE ALSO", ".BR shoal (1)")


def _shell() -> Iterator[str]:
    for title, names in GROUPS.items():
        yield f'.SH "{title.upper()}"'
        for name in names:
            command = COMMANDS[name]
            yield from (".TP", f".B {_text(command.usage[0])}")
            for line in command.usage[1:]:
                yield from (".br", f".B {_text(line)}")
            yield _text(command.summary) + "."
            for option in command.options:
                yield from (".br", f"\\fI{_text(option.word)}\\fR: {_text(option.help)}")
    yield from _listed("IN AN EDIT", EDIT_HELP)


def _listed(title: str, texts: dict[str, str]) -> Iterator[str]:
    yield f'.SH "{title}"'
    for word, text in texts.items():
        yield from (".TP", f".B {_text(word)}", _text(text))


def _prose(text: str) -> Iterator[str]:
    """A help text: paragraphs, and those after ``\\b`` line by line."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and lines[0] == "\b":
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield _text(" ".join(lines))


def _text(text: str) -> str:
    """Nothing in it is taken for a request of troff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return "\\&" + text if text.startswith((".", "'")) else text


def completion(cli: click.Command, shell: str) -> str:
    """The script that a shell loads."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(cli, {}, "shoal", "_SHOAL_COMPLETE").source().replace(*ZSH_CALLED)


def show(page: str) -> None:
    """In `man` where there is one and somebody looks, else as it is, without troff's requests."""
    man = shutil.which("man")
    if man and sys.stdout.isatty():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "shoal.1"
            file.write_text(page)
            if subprocess.call([man, "-l", str(file)]) == 0:
                return
    click.echo(plain(page))


def plain(page: str) -> str:
    """A page for where there is no `man`."""
    lines = []
    for line in page.splitlines():
        request, _, rest = line.partition(" ")
        if request == ".SH":
            lines += ["", rest.strip('"')]
        elif request in (".B", ".BR"):
            lines.append("  " + rest)
        elif request == ".PP":
            lines.append("")
        elif not line.startswith("."):
            lines += textwrap.wrap(line, 100, initial_indent="      ", subsequent_indent="      ")
    text = re.sub(r"\\f[IRB]|\\&", "", "\n".join(lines))
    return text.replace("\\(ga", "`").replace("\\-", "-").replace("\\e", "\\").lstrip("\n")


def what_looks_there(prefix: Path) -> list[str]:
    """What to do so that shells and `man` look below a prefix; nothing for those that they look below anyway."""
    if prefix.absolute() in USUAL:
        return []
    share = prefix.absolute() / "share"
    return [
        f"bash: . {share / SHELLS['bash']}",
        f"zsh:  fpath+=({(share / SHELLS['zsh']).parent}), before compinit",
        f"man:  export MANPATH={share / 'man'}:",
    ]


def install(cli: click.Group, share: Path) -> list[Path]:
    """Write all of them below a ``share`` directory; the files."""
    files = {share / "man" / "man1" / name: text for name, text in pages(cli).items()}
    files |= {share / place: completion(cli, shell) for shell, place in SHELLS.items()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)
