"""What a VIP's last choice was made from: every engine with its rank, or the rule that excluded it.

Records keep the result only; the rest is made anew out of the snapshot, which takes a plan. So it is done in three
steps: `question` gathers what is needed, `answer` thinks (pure: any thread may), `document` shows.
"""

from __future__ import annotations

import msgspec

from shoal.controller.history import Moment
from shoal.controller.records import Noted, VipRecord
from shoal.placement.explain import judgements, records
from shoal.placement.model import Decision, Judgement

from .present import Present
from .sources import Document, Sources


class Question(msgspec.Struct, frozen=True, kw_only=True):
    vip: str
    noted: Noted
    moment: Moment
    gone: bool
    """The decision's own snapshot is not kept any more; ``moment`` is the present."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    question: Question
    judged: Judgement
    gone: bool


def answer(question: Question) -> Answer | None:
    """None when the group has forgotten the VIP meanwhile."""
    moment, decision = question.moment, question.noted.decision
    if not question.gone:
        for record in records(moment.snapshot, moment.at, question.vip):
            if record.judged is not None and _same(record.decision, decision):
                return Answer(question=question, judged=record.judged, gone=False)
    judged = judgements(moment.snapshot, [question.vip], moment.at).get(question.vip)
    return Answer(question=question, judged=judged, gone=True) if judged is not None else None


def _same(made: Decision, noted: Decision) -> bool:
    """Equal but for the name of an engine that was to be made."""
    return msgspec.structs.replace(made, engine=noted.engine) == noted


class Reasons(msgspec.Struct, frozen=True):
    sources: Sources
    present: Present

    def question(self, record: VipRecord) -> Question | None:
        """About the last decision for which engines were looked at; None if there was none."""
        reconciler = self.sources.reconciler
        snapshot, at = reconciler.snapshots.get(record.group), reconciler.planned_at.get(record.group, 0.0)
        looked = [n for n in self.present.decisions(record) if n.decision.excluded or n.decision.eligible]
        if not looked or snapshot is None:
            return None
        noted, now = looked[-1], Moment(at, snapshot)
        if (noted.at, noted.decision.revision) == (at, snapshot.revision):
            found: Moment | None = now
        else:
            found = reconciler.history.find(record.group, noted.decision.revision, noted.at)
        return Question(vip=record.id, noted=noted, moment=found or now, gone=found is None)

    def document(self, answer: Answer) -> Document:
        decision, engines = answer.question.noted.decision, {e.id: e for e in answer.question.moment.snapshot.engines}
        slots = {c.engine: c for c in answer.judged.candidates}
        note = f"recomputed as things stand now, revision {decision.revision} is gone" if answer.gone else ""

        def row(engine: str, rank: int, rule: str, detail: str) -> Document:
            found, candidate = engines.get(engine), slots.get(engine)
            chosen = engine == decision.engine and not answer.gone
            return {
                "se_ref": self.sources.engine_ref(engine),
                "serviceengine": found.name if found else engine,
                "host": found.host if found else "",
                "verdict": "chosen" if chosen else rule or "eligible",
                "rank": rank,
                "detail": detail or (f"{candidate.load} of {candidate.capacity} slots used" if candidate else ""),
            }

        return {
            "what": decision.what,
            "at": answer.question.noted.at,
            "revision": decision.revision,
            "note": note,
            "engines": [
                *(row(c.engine, rank, "", "") for rank, c in enumerate(answer.judged.candidates, 1)),
                *(row(r.engine, 0, r.rule, r.detail) for r in answer.judged.rejections),
            ],
        }
