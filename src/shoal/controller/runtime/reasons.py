"""What a VIP's last choice was made from, and what would help where there was none.

Records keep the result only; the rest is made anew out of the snapshot, which takes a plan or several. So it is done in
three steps: `question` gathers what is needed, `answer` thinks (pure: any thread may), `document` shows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from shoal.controller.history import Moment
from shoal.controller.records import Noted, VipRecord
from shoal.placement.explain import judgements, records
from shoal.placement.model import Decision, Judgement, Snapshot
from shoal.placement.remedy import Remedy, remedies, remedies_for_all, sentence

from .present import Present
from .sources import Document, Sources

REMEMBERED_MAX = 32
"""Answers kept: clients poll. One of 1,000 engines takes about 0.3 MB."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    vip: str
    noted: Noted | None
    """The last decision for which engines were looked at."""
    moment: Moment
    """What it was made from; the present if that is gone."""
    gone: bool
    now: Moment
    short: bool
    """Nothing (more) can be done for the VIP."""

    @property
    def key(self) -> tuple[str, float, int, float, int]:
        """The same for questions that have the same answer."""
        noted = self.noted
        made = (noted.at, noted.decision.revision) if noted else (0.0, 0)
        present = (self.now.at, self.now.snapshot.revision) if self.gone or self.short else (0.0, 0)
        return (self.vip, *made, *present)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    question: Question
    judged: Judgement | None
    gone: bool
    remedies: tuple[Remedy, ...]


def answer(question: Question) -> Answer:
    judged, gone = _judged(question)
    found = remedies(question.now.snapshot, question.vip, question.now.at) if question.short else ()
    return Answer(question=question, judged=judged, gone=gone, remedies=found)


def _judged(question: Question) -> tuple[Judgement | None, bool]:
    """What the decision was made from; where that is gone, how things stand now."""
    moment = question.moment
    if question.noted is not None and not question.gone:
        for record in records(moment.snapshot, moment.at, question.vip):
            if record.judged is not None and _same(record.decision, question.noted.decision):
                return record.judged, False
    return judgements(question.now.snapshot, [question.vip], question.now.at).get(question.vip), True


def _same(made: Decision, noted: Decision) -> bool:
    """Equal but for the name of an engine that was to be made."""
    return msgspec.structs.replace(made, engine=noted.engine) == noted


class Help(msgspec.Struct, frozen=True, kw_only=True):
    """What would help a whole group."""

    all_vips: tuple[Remedy, ...]
    buffer: tuple[Remedy, ...]


def group_help(now: Moment, *, short: bool, buffer_kept: bool) -> Help:
    return Help(
        all_vips=remedies_for_all(now.snapshot, now.at) if short else (),
        buffer=() if buffer_kept else remedies(now.snapshot, "", now.at),
    )


def lines(
    snapshot: Snapshot | None, now: float, vips: Iterable[str], references: Mapping[str, str]
) -> dict[str, list[Document]]:
    """For each of these VIPs, the engines that can't take it (more of it): ``references`` to them, rule and numbers."""
    judged = judgements(snapshot, vips, now) if snapshot is not None else {}
    return {
        vip: [
            {"se_ref": references.get(no.engine, no.engine), "rule": no.rule, "detail": no.detail}
            for no in found.rejections
        ]
        for vip, found in judged.items()
    }


class Reasons:
    def __init__(self, sources: Sources, present: Present) -> None:
        self._of = sources
        self._present = present
        self._remembered: OrderedDict[tuple[str, float, int, float, int], Answer] = OrderedDict()

    def now(self, group: str) -> Moment | None:
        """What the last plan was made from; None before the first one."""
        reconciler = self._of.reconciler
        snapshot = reconciler.snapshots.get(group)
        return None if snapshot is None else Moment(reconciler.planned_at[group], snapshot)

    def question(self, record: VipRecord) -> Question | None:
        """None before the first plan of this controller."""
        now = self.now(record.group)
        if now is None:
            return None
        looked = [n for n in self._present.decisions(record) if n.decision.excluded or n.decision.eligible]
        noted = looked[-1] if looked else None
        found: Moment | None = None
        if noted is not None and (noted.at, noted.decision.revision) == (now.at, now.snapshot.revision):
            found = now
        elif noted is not None:
            found = self._of.reconciler.history.find(record.group, noted.decision.revision, noted.at)
        return Question(
            vip=record.id,
            noted=noted,
            moment=found or now,
            gone=found is None,
            now=now,
            short=self._present.shortfall(record) is not None,
        )

    def remembered(self, question: Question) -> Answer | None:
        return self._remembered.get(question.key)

    def remember(self, answer: Answer) -> None:
        self._remembered[answer.question.key] = answer
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)

    def document(self, answer: Answer) -> Document:
        """Every engine of the group: chosen, its rank, or the rule that excluded it."""
        if answer.judged is None:
            return {}
        question, judged = answer.question, answer.judged
        moment = question.now if answer.gone else question.moment
        engines = {engine.id: engine for engine in moment.snapshot.engines}
        decision = question.noted.decision if question.noted else None
        most = moment.snapshot.group.max_vs_per_se

        def row(engine: str, verdict: str, load: int, detail: str, rank: int = 0) -> Document:
            found = engines[engine]
            chosen = decision is not None and engine == decision.engine and not answer.gone
            return {
                "se_ref": self._of.engine_ref(engine),
                "serviceengine": found.name,
                "host": found.host,
                "verdict": "chosen" if chosen else verdict,
                "rank": rank,
                "slots_used": load,
                "slots": most,
                "detail": detail,
            }

        made = decision is not None and not answer.gone and decision.engine and decision.engine not in engines
        return {
            "what": decision.what if decision else "",
            "at": question.noted.at if question.noted else moment.at,
            "revision": decision.revision if decision else moment.snapshot.revision,
            "as_of_now": answer.gone,
            "note": self._note(answer),
            "engines": [
                *([self._made(decision, most)] if made and decision else []),
                *(row(c.engine, "eligible", c.load, "", rank) for rank, c in enumerate(judged.candidates, 1)),
                *(row(r.engine, r.rule, r.load, r.detail) for r in judged.rejections),
            ],
        }

    def _made(self, decision: Decision, most: int) -> Document:
        """The engine that was made for it was not there to be judged."""
        return {
            "se_ref": self._of.engine_ref(decision.engine),
            "serviceengine": self._of.engine_name(decision.engine),
            "host": "",
            "verdict": "chosen",
            "rank": 0,
            "slots_used": 0,
            "slots": most,
            "detail": "made for it",
        }

    def _note(self, answer: Answer) -> str:
        noted = answer.question.noted
        if not answer.gone:
            return ""
        if noted is None:
            return "as things stand now"
        return f"recomputed as things stand now, revision {noted.decision.revision} is gone"


def shown(found: tuple[Remedy, ...]) -> Document:
    """The members that tell what would help."""
    return {
        "would_help": sentence(found),
        "remedies": [{"field": r.field, "value": r.value, "serviceengine": r.name, "text": r.text} for r in found],
    }
