"""Placement transcripts: `placement/*.txt`, named after situations. `REWRITE=1 pytest` writes what happens now.

A file is a list of paragraphs: a command, `----`, the whole output. Commands:

    group FIELD=VALUE ...                 start a group (modes and algorithms without their prefix)
    engine NAME [HOST]                    an engine that is up; `hosts A B ...` where new ones come up, in turn
    add NAMES [slots=N] [at=ADDRESS] [in=NAME:NETWORK]   virtual services, one after another; VS1..VS4 counts
    vlans ENGINE NETWORKS                 the networks that the engine is in by VLANs; `made NETWORKS`: engines to come
    remove | stop | start NAMES           delete, disable, enable virtual services
    fail | crash | recover ENGINES        down with its successors taking over; without any doing so; up again, empty
    claim VIP ENGINE                      the engine reports that it owns the VIP
    edit FIELD=VALUE ...                  change the group
    enable_state ENGINE STATE
    scaleout | scalein | migrate | retryplacement VIP [to=E] [new] [from=E] [primary]
    step                                  one plan only, nothing settles; `hold` / `settle`: engines stay in creation
    wait SECONDS
    show                                  engines and what they hold: * primary, ~ draining, ? waiting, + assigned
    succession                            who takes over what
    why VIP                               the last reasons, as people read them, and what would help now
    whatif ENGINES
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shoal.placement.explain import records, sentences
from shoal.placement.model import EngineState, Need, PlacementState, Plan, Record, Request, RequestKind, Role, Snapshot
from shoal.placement.remedy import remedies, sentence
from shoal.placement.whatif import fail
from tests.scenarios.world import World

FILES = sorted((Path(__file__).parent / "placement").glob("*.txt"))
PREFIXES = {"ha_mode": "HA_MODE_", "algo": "PLACEMENT_ALGO_"}
MARKS = {PlacementState.WAITING: "?", PlacementState.ASSIGNED: "+", PlacementState.DRAINING: "~"}


def spread(words: list[str]) -> list[str]:
    """VS1..VS3 -> VS1 VS2 VS3"""
    names: list[str] = []
    for word in words:
        range_ = re.fullmatch(r"(\D+)(\d+)\.\.\D+(\d+)", word)
        if range_:
            names += [f"{range_[1]}{n}" for n in range(int(range_[2]), int(range_[3]) + 1)]
        else:
            names.append(word)
    return names


def fields(words: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in (word.split("=") for word in words):
        number = float(value) if name.endswith("_s") else int(value) if value.isdigit() else None
        flag = {"true": True, "false": False}.get(value)
        found[name] = flag if flag is not None else number if number is not None else PREFIXES.get(name, "") + value
    return found


class Transcript:
    def __init__(self) -> None:
        self.world = World()
        self.decisions: dict[str, list[Record]] = {}

    def run(self, line: str) -> str:
        """Carry out one command; its whole output."""
        verb, *words = line.split()
        looks: dict[str, Callable[[list[str]], str]] = {
            "show": self.show,
            "succession": self.succession,
            "why": self.why,
            "whatif": self.whatif,
        }
        if verb in looks:
            return looks[verb](words)
        events, results = len(self.world.events), len(self.world.results)
        self.decisions = {}
        self.world.heard = self.hear
        self.act(verb, words)
        told = list(dict.fromkeys(self.world.events[events:]))
        lines = [f"event {name}" for name in told]
        lines += [f"{'ok' if r.ok else 'no'}: {r.message}" for r in self.world.results[results:]]
        return "\n".join([*lines, self.summary()])

    def hear(self, snapshot: Snapshot, plan: Plan) -> None:
        for vip in dict.fromkeys(decision.vip for decision in plan.decisions):
            heard = self.decisions.setdefault(vip, [])
            heard += [record for record in records(snapshot, self.world.now, vip) if record not in heard]

    # --- acting ---

    def act(self, verb: str, words: list[str]) -> None:
        world = self.world
        match verb:
            case "group":
                self.world = World(**fields(words))
                self.world.heard = self.hear
            case "hosts":
                world.hosts = words
            case "engine":
                world.engine(words[0], *words[1:])
            case "add":
                options = dict(word.split("=") for word in words if "=" in word)
                name, _, network = options.get("in", "").partition(":")
                more: dict[str, object] = {"addresses": (options["at"],)} if "at" in options else {}
                more |= {"needs": (Need(name, (network,)),)} if name else {}
                world.add(*spread([w for w in words if "=" not in w]), slots=int(options.get("slots", 1)), **more)
            case "made":
                world.edit(networks_made=tuple(words))
            case "vlans":
                world.alter(words[0], home="10.0.0.0/24", vlans=tuple(words[1:]))
                world.settle()
            case "remove":
                for name in spread(words):
                    world.remove(name)
            case "stop" | "start":
                for name in spread(words):
                    world.vips[name] = msgspec.structs.replace(world.vips[name], enabled=verb == "start")
                world.settle()
            case "fail" | "crash":
                world.guards = verb == "fail"
                world.fail(*words, settle=False)
                if verb == "crash":
                    world.now += 2.0
                world.settle()
            case "recover":
                world.recover(words[0])
            case "claim":
                world.claim(*words)
            case "edit":
                world.edit(**fields(words))
            case "enable_state":
                world.enable_state(words[0], f"SE_STATE_{words[1]}")
            case "step":
                world.step()
            case "hold":
                world.makes = False
            case "settle":
                world.makes = True
                world.settle()
            case "wait":
                world.wait(float(words[0]))
            case _:
                self.ask(RequestKind(verb), words)

    def ask(self, kind: RequestKind, words: list[str]) -> None:
        world = self.world
        options = dict(word.split("=") for word in words[1:] if "=" in word)
        id = f"r{len(world.results) + len(world.requests) + 1}"
        world.requests[id] = Request(
            id=id,
            kind=kind,
            vip=words[0],
            at=world.now,
            to_engine=options.get("to", ""),
            to_new="new" in words,
            from_engine=options.get("from", ""),
            scalein_primary="primary" in words,
        )
        world.settle()

    # --- looking ---

    def summary(self) -> str:
        world = self.world
        creating = sum(e.state is EngineState.CREATING for e in world.engines.values())
        placed = sum(vip.slots * len(vip.placements) for vip in world.vips.values())
        buffer = world.last.buffer if world.last else None
        text = f"{world.count()} engines{f' and {creating} in creation' if creating else ''}, {placed} slots used"
        if buffer is not None and buffer.needed:
            text += f", buffer {max(0, buffer.free)}/{buffer.needed}"
        nowhere = [vip.name for vip in world.vips.values() if vip.enabled and not vip.placements]
        return text + (f", nowhere: {' '.join(nowhere)}" if nowhere else "")

    def show(self, words: list[str]) -> str:
        world, lines = self.world, []
        for engine in world.engines.values():
            held = [
                vip.name + ("*" if p.role is Role.PRIMARY else "") + MARKS.get(p.state, "")
                for vip in world.vips.values()
                for p in vip.placements
                if p.engine == engine.id
            ]
            used = sum(v.slots for v in world.vips.values() for p in v.placements if p.engine == engine.id)
            state = engine.state.value + (f" on {engine.host}" if engine.host else "")
            if engine.enable_state != "SE_STATE_ENABLED":
                state += f" {engine.enable_state[9:]} {engine.migrate_state}".rstrip()
            lines.append(f"{engine.name} {state} {used}/{world.group.max_vs_per_se} {' '.join(held)}".rstrip())
        return "\n".join(lines)

    def succession(self, words: list[str]) -> str:
        vips = self.world.vips.values()
        return "\n".join(f"{vip.name}: {' > '.join(vip.succession)} (generation {vip.generation})" for vip in vips)

    def why(self, words: list[str]) -> str:
        name = "" if words[0] == "group" else words[0]
        found = self.decisions.get(name, [])
        lines = [line for record in found for line in sentences(record.decision, record.judged)]
        would_help = sentence(remedies(self.world.snapshot(), name, self.world.now))
        return "\n".join([*lines, *([f"What would help: {would_help}"] if would_help else [])])

    def whatif(self, words: list[str]) -> str:
        outcome = fail(self.world.snapshot(), words, self.world.now)
        return f"{outcome.sentence}\nstays up: {outcome.stays_up}, keeps capacity: {outcome.keeps_capacity}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    transcript = Transcript()
    told = path.read_text()
    written: list[str] = []
    for paragraph in re.split(r"\n\n+", told.strip()):
        if paragraph.startswith("#"):
            written.append(paragraph)
            continue
        command = paragraph.split("\n----")[0]
        written.append(f"{command}\n----\n{transcript.run(command)}")
    after = "\n\n".join(written) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(after)
    assert after == path.read_text()


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 15
