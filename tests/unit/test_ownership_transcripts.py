"""Ownership, told as transcripts: commands, ``----``, the whole output. See `commands` for the vocabulary.

``SHOAL_REWRITE_TRANSCRIPTS=1 pytest tests/unit/test_ownership_transcripts.py`` writes what the machine does now; read
the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from shoal.simulator.ownership_world import Engine, World
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios" / "ownership").glob("*.txt"))
ADDRESS = "10.0.0.100"


class Player:
    """Plays one transcript. The VIP ``v`` starts on the first engine, the others succeed in order."""

    def __init__(self) -> None:
        self.world = World(())
        self.desired = Desired(timing=Timing(), peers=(), vips=(), slots_max=10)
        self.removed = self.desired
        self.written = 0

    def play(self, line: str) -> None:
        word, *arguments = line.split()
        getattr(self, f"do_{word}")(*arguments)

    def output(self) -> str:
        lines, self.written = self.world.log[self.written :], len(self.world.log)
        return "\n".join(lines)

    # --- commands ---

    def do_engines(self, *names: str) -> None:
        """``engines A B C``: all start, and are told of the VIP."""
        self.world = World(names)
        peers = tuple(Peer(id=n, name=n, rank=i + 1, address=n, mac=n) for i, n in enumerate(names))
        vip = Vip(
            id="v",
            addresses=(ADDRESS,),
            generation=1,
            owner=names[0],
            members=names[:1],
            succession=names[1:],
            list_version=1,
            armed=True,
        )
        self.desired = replace(self.desired, peers=peers, vips=(vip,))
        for name in names:
            self.world.start(name)
            self.world.tell(name, self.desired)

    def do_run(self, milliseconds: str) -> None:
        """``run 500ms``."""
        self.world.run(float(milliseconds.removesuffix("ms")) / 1000)

    def do_plan(self, *changes: str) -> None:
        """``plan generation=2 owner=B members=B,A``: the controller's next plan; nobody knows it yet."""
        vip = msgspec.to_builtins(self.desired.vips[0])
        for change in changes:
            name, _, value = change.partition("=")
            if isinstance(vip[name], list | tuple):
                vip[name] = tuple(v for v in value.split(",") if v)
            elif isinstance(vip[name], bool):
                vip[name] = value == "yes"
            else:
                vip[name] = type(vip[name])(value)
        self.desired = replace(self.desired, vips=(msgspec.convert(vip, Vip),))

    def do_join(self, name: str, *peers: str) -> None:
        """``join D A``: an engine more. The next plan knows it and ``peers``, and no other."""
        rank = len(self.world.engines) + 1
        self.world.engines[name] = Engine(name, rank)
        known = [p for p in self.desired.peers if p.id in peers]
        added = Peer(id=name, name=name, rank=rank, address=name, mac=name)
        self.desired = replace(self.desired, peers=(*known, added))
        self.world.start(name)

    def do_slots(self, most: str) -> None:
        self.desired = replace(self.desired, slots_max=int(most))

    def do_remove(self) -> None:
        """The controller's next plan has no VIP."""
        self.removed, self.desired = self.desired, replace(self.desired, vips=())

    def do_restore(self) -> None:
        """The plan before `remove` again."""
        self.desired = self.removed

    def do_tell(self, *names: str) -> None:
        """``tell A B``: these engines get the plan."""
        for name in names:
            self.world.tell(name, self.desired)

    def do_kill(self, name: str) -> None:
        self.world.kill(name)

    def do_start(self, name: str) -> None:
        self.world.start(name)

    def do_stop(self, name: str) -> None:
        self.world.stop(name)

    def do_freeze(self, name: str) -> None:
        self.world.freeze(name)

    def do_thaw(self, name: str) -> None:
        self.world.thaw(name)

    def do_link(self, name: str, state: str) -> None:
        self.world.link(name, state == "up")

    def do_haproxy(self, name: str, state: str) -> None:
        self.world.set_haproxy(name, state == "up")

    def do_cut(self, one: str, other: str) -> None:
        self.world.cut(one, other)

    def do_heal(self, one: str, other: str) -> None:
        self.world.cut(one, other, False)

    def do_speakers(self) -> None:
        """Who answers for the address, right now."""
        self.world.note("speaks: " + (" ".join(self.world.speakers(ADDRESS)) or "nobody"))


def blocks(text: str) -> list[tuple[list[str], str]]:
    """(commands, expected output) of each block; blocks are parted by a blank line, ``#`` begins a remark."""
    found = []
    for block in re.split(r"\n{2,}", text.strip()):
        commands, _, expected = block.partition("\n----")
        found.append((commands.splitlines(), expected.strip("\n")))
    return found


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_transcript(path: Path) -> None:
    player, written = Player(), []
    parts = blocks(path.read_text())
    for commands, _ in parts:
        for line in commands:
            if not line.startswith("#"):
                player.play(line)
        written.append((commands, player.output()))
    text = "\n\n".join("\n".join(commands) + "\n----\n" + output for commands, output in written) + "\n"
    if os.environ.get("SHOAL_REWRITE_TRANSCRIPTS"):
        path.write_text(text)
    assert written == parts


def test_there_are_transcripts() -> None:
    assert len(SCENARIOS) >= 15
