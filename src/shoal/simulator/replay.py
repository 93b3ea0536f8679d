"""``shoal replay``: what was written down, played again: a simulated run, or the decisions of a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from shoal import __version__
from shoal.controller import decision_log
from shoal.controller.decision_log import Record
from shoal.errors import Invalid
from shoal.placement import plan
from shoal.placement.model import Plan, Snapshot

from . import history
from .silence import silence
from .trial import Outcome, played

EXIT_DIFFERENT = 1
LOG = "decisions.log"


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One planning, made again. ``differs``: in which parts; empty = every decision is reproduced."""

    record: Record
    snapshot: Snapshot | None
    """None: it can't be made again, because records before it are missing."""
    again: Plan | None
    differs: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        if self.again is None:
            return "not known"
        return "differs" if self.differs else "reproduced"


def replayed(file: Path) -> Iterator[Replayed | None]:
    """Each planning of a ``decisions.log``; None for a line that can't be read. Raises Invalid."""
    present: dict[str, Snapshot] = {}
    for record in decision_log.read(file):
        if record is None:
            yield None
            continue
        group = record.rest.group.id
        snapshot = decision_log.snapshot_of(present.get(group), record)
        if snapshot is None:
            yield Replayed(record=record, snapshot=None, again=None)
            continue
        present[group] = snapshot
        again = plan(snapshot, record.at)
        yield Replayed(record=record, snapshot=snapshot, again=again, differs=tuple(different(record.plan, again)))


def different(one: Plan, other: Plan) -> Iterator[str]:
    """The parts in which two plans are not the same, whatever the order of VIPs."""
    for field in msgspec.structs.fields(Plan):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("vips", "decisions", "events"):
            mine, its = sorted(mine, key=repr), sorted(its, key=repr)
        if mine != its:
            yield field.name


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--differences", is_flag=True, help="Only what is decided otherwise now.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout: an object a line for decisions.")
def command(file: Path, differences: bool, as_json: bool) -> int:
    """Play FILE again.

    \b
    decisions.log        of a data directory (or the directory itself): every plan is made again from what it was made
                         from then, and compared
    shoal-seed-N.json    as `shoal simulate` wrote it: the run is played again

    Exit status 1 if a decision differs, or a promise is (still) broken.
    """
    file = file / LOG if file.is_dir() else file
    if not file.exists():
        raise Invalid(f"There is no {file}: it is written by a controller that runs on the data directory")
    with silence():
        if _is_transcript(file):
            return _transcript(file, as_json=as_json)
        return _decisions(file, differences=differences, as_json=as_json)


def _is_transcript(file: Path) -> bool:
    """A decision log has a record a line, beginning with when it was made."""
    with file.open("rb") as opened:
        return b'"at"' not in opened.read(40)


# --- decisions ---


def _decisions(file: Path, *, differences: bool, as_json: bool) -> int:
    counts = dict.fromkeys(("reproduced", "differs", "not known", "unreadable"), 0)
    versions: dict[str, None] = {}
    missed = 0
    for found in replayed(file):
        counts["unreadable" if found is None else found.state] += 1
        if found is None:
            continue
        versions[found.record.version] = None
        missed += found.record.missed
        if differences and found.state != "differs":
            continue
        if as_json:
            click.echo(json.dumps(_document(found)))
        else:
            click.echo("\n".join(_sentences(found)))
    if not as_json:
        _sum(counts, missed, list(versions))
    return EXIT_DIFFERENT if counts["differs"] else 0


def _sentences(found: Replayed) -> Iterator[str]:
    record = found.record
    at = datetime.fromtimestamp(record.at, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    yield f"{at}  {record.rest.group.name}: {found.state}"
    if found.snapshot is None:
        yield "    what it was made from began before this file"
        return
    names = {engine.id: engine.name for engine in found.snapshot.engines}
    names |= {vip.id: vip.name for vip in found.snapshot.vips}
    if found.differs:
        yield f"    in: {', '.join(found.differs)}"
        yield "  then:"
    yield from _decided(record.plan, names)
    if found.differs and found.again is not None:
        yield "  now:"
        yield from _decided(found.again, names)


def _decided(plan: Plan, names: dict[str, str]) -> Iterator[str]:
    for decision in plan.decisions:
        who = names.get(decision.vip, decision.vip)
        where = names.get(decision.engine, decision.engine)
        yield f"    {' '.join(filter(None, (who, decision.what.replace('_', ' '), where)))}: {decision.why}"
    if not plan.decisions:
        yield f"    {plan.sentence or 'carried on with what was decided before'}"


def _sum(counts: dict[str, int], missed: int, versions: list[str]) -> None:
    told = [f"{counts['reproduced']} plans reproduced, {counts['differs']} differ"]
    if counts["not known"]:
        told.append(f"{counts['not known']} can't be made again (their group's first record is not in the file)")
    if counts["unreadable"]:
        told.append(f"{counts['unreadable']} lines can't be read")
    if missed:
        told.append(f"{missed} were not written down (too many at once)")
    click.echo("; ".join(told) + ".")
    if counts["differs"] and versions != [__version__]:
        click.echo(f"They were made by version {', '.join(versions)}, this is {__version__}: rules may have changed.")


def _document(found: Replayed) -> dict[str, Any]:
    document: dict[str, Any] = {
        "at": found.record.at,
        "serviceenginegroup": found.record.rest.group.name,
        "state": found.state,
        "differs": found.differs,
        "plan": msgspec.to_builtins(found.record.plan),
    }
    if found.differs:
        document["plan_now"] = msgspec.to_builtins(found.again)
    return document


# --- simulated runs ---


def _transcript(file: Path, *, as_json: bool) -> int:
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
