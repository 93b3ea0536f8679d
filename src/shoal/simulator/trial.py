"""One simulated run: a world of some shape, and what happens in it, drawn or given."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from shoal.placement.presets import LEGACY

from .deeds import Deeds
from .draw import Draw
from .history import Event, Shape, Transcript
from .kernel import Broken
from .system_world import SystemWorld
from .virtual_time import Stuck, VirtualLoop, run

LAST = Event(do="calm")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """``events``: those that happened, up to the failure. ``broke``: the rule that was broken, "" if none."""

    seed: int
    shape: Shape
    events: tuple[Event, ...]
    kinds: dict[str, int]
    """Of the events that meant something."""
    checked: dict[str, int]
    """How often each promise was looked at."""
    virtual_s: float
    cpu_s: float
    wall_s: float
    digest: str
    """Of all that happened: equal in every run of the same seed, shape and source."""
    broke: str = ""
    why: str = ""

    @property
    def transcript(self) -> Transcript:
        return Transcript(seed=self.seed, shape=self.shape, events=self.events, broke=self.broke, why=self.why)


class Run:
    """What is known of a run while it goes on, and afterwards whatever ended it."""

    def __init__(self, seed: int, shape: Shape, progress: Callable[[int], None]) -> None:
        self.seed, self.shape = seed, shape.of(seed)
        self.events: list[Event] = []
        self.kinds: Counter[str] = Counter()
        self.world: SystemWorld | None = None
        self._progress = progress

    async def play(self, loop: VirtualLoop, source: Callable[[SystemWorld], Iterable[Event]]) -> None:
        world = self.world = SystemWorld(loop, self.seed, self.shape.host_names)
        await world.start()
        await begin(world, self.shape)
        deeds = Deeds(world, self.shape)
        for event in source(world):
            self.events.append(event)
            if await deeds.do(event):
                self.kinds[event.do] += 1
            self._progress(len(self.events))


async def begin(world: SystemWorld, shape: Shape) -> None:
    """The groups of the shape and their services, placed and served."""
    number = 0
    for name, mode in zip(shape.groups, shape.modes, strict=True):
        body: dict[str, object] = {"name": name, "ha_mode": mode, "max_vs_per_se": shape.max_vs_per_se}
        if mode != LEGACY:
            body["max_se"] = shape.max_se
        await world.create("serviceenginegroup", body)
        for _ in range(shape.services):
            number += 1
            await world.service(f"s-{number}", name)
    await world.settle()


def drawn(seed: int, shape: Shape, count: int, progress: Callable[[int], None] = lambda done: None) -> Outcome:
    """``count`` random events, then all must become as intended."""

    def source(world: SystemWorld) -> Iterator[Event]:
        draw = Draw(world, shape.of(seed))
        for _ in range(count):
            yield draw.next()
        yield LAST

    return _run(seed, shape, source, progress)


def played(
    seed: int, shape: Shape, events: Iterable[Event], progress: Callable[[int], None] = lambda n: None
) -> Outcome:
    """These events, then all must become as intended."""
    given = list(events)
    if not given or given[-1].do != "calm":
        given.append(LAST)
    return _run(seed, shape, lambda world: given, progress)


def _run(
    seed: int,
    shape: Shape,
    source: Callable[[SystemWorld], Iterable[Event]],
    progress: Callable[[int], None],
) -> Outcome:
    began, began_cpu = time.monotonic(), time.process_time()
    ran, broke, why = Run(seed, shape, progress), "", ""
    try:
        run(lambda loop: ran.play(loop, source))
    except Broken as broken:
        broke, why = broken.rule, str(broken)
    except Stuck as stuck:
        broke, why = "stuck", str(stuck)
    except (Exception, BaseExceptionGroup) as error:  # whatever ended the controller is the finding
        broke, why = _crash(error, ran)
    world = ran.world
    assert world is not None
    return Outcome(
        seed=seed,
        shape=ran.shape,
        events=tuple(ran.events),
        kinds=dict(sorted(ran.kinds.items())),
        checked={
            **world.witness.counts,
            **world.answered.counts,
            "owners": world.segment.checked,
            "settled": world.settled,
        },
        virtual_s=round(world.now, 1),
        cpu_s=round(time.process_time() - began_cpu, 2),
        wall_s=round(time.monotonic() - began, 2),
        digest=hashlib.blake2b("\n".join(world.segment.log).encode(), digest_size=8).hexdigest(),
        broke=broke,
        why=why,
    )


def _crash(error: BaseException, ran: Run) -> tuple[str, str]:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Broken):
        return error.rule, str(error)
    at, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/shoal/" in code.co_filename:
            at = f"{code.co_filename.rpartition('/shoal/')[2]}:{trace.tb_lineno} ({code.co_name})"
        trace = trace.tb_next
    sentence = f"the program failed: {type(error).__name__}: {error}, {at}"
    return f"program {type(error).__name__}", ran.world.segment.explain(sentence) if ran.world else sentence
