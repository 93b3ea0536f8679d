"""New pools of a group that prove themselves before they get all of its requests (``deployment_policy_ref``).

A member in EVALUATION_IN_PROGRESS, the candidate, gets a share of the requests. When each `evaluation_duration` is over its
figures are held against the policy's rules: kept, and the share grows until the candidate is made IN_SERVICE; broken, or the
candidate is down at any time, and it is EVALUATION_FAILED and gets nothing. What state a member is in stands in the document of the group, as anybody's write would
have it; how far the candidate has come, in the store. Each step is one conditional write, so that a controller that ends
between two of them, or a second one beside it, leaves nothing half done and does nothing twice.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from shoal.errors import ShoalError
from shoal.objects.views import uuid_of
from shoal.store.patience import patiently
from shoal.store.protocol import Condition, Conflict, Records, Transaction

from .clock import Clock
from .events import EventLog
from .metric_ids import METRICS, POOL, RESPONSES
from .metrics import SETTLED_AFTER_S, Metrics
from .protocols import Documents
from .view import View

log = logging.getLogger("shoal.deployments")

KEPT = "/deployments/"
"""``/deployments/<pool group uuid>``: a `Progress`."""
POLICY = "poolgroupdeploymentpolicy"
FIELD = "deployment_policy_ref"
CANDIDATE, IN_SERVICE, FAILED, OUT = "EVALUATION_IN_PROGRESS", "IN_SERVICE", "EVALUATION_FAILED", "OUT_OF_SERVICE"
PRODUCTION = ("", IN_SERVICE)
LOOK_INTERVAL_S = 5.0
WHOLE = 100
PARTS = 1_000
"""Ratios of a group under evaluation add up to so much, more or less."""
HEALTH = "health.health_score_value"
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "CO_EQ": lambda a, b: a == b,
    "CO_NE": lambda a, b: a != b,
    "CO_GT": lambda a, b: a > b,
    "CO_GE": lambda a, b: a >= b,
    "CO_LT": lambda a, b: a < b,
    "CO_LE": lambda a, b: a <= b,
}
SIGNS = {"CO_EQ": "=", "CO_NE": "not", "CO_GT": ">", "CO_GE": ">=", "CO_LT": "<", "CO_LE": "<="}
Document = Mapping[str, Any]


class Progress(msgspec.Struct, frozen=True):
    """The ``candidate`` (a pool's uuid) has had ``percent`` of the requests ``since`` then, on the wall clock."""

    candidate: str
    percent: int
    since: float


class Kept(NamedTuple):
    progress: Progress
    version: int
    """Of the record in the store."""


class Verdict(NamedTuple):
    """``kept`` None: nothing can be said yet. ``why`` in half a sentence."""

    kept: bool | None
    why: str = ""


async def _nowhere(group: str, document: Document) -> None:
    raise ShoalError("Groups are not written by this controller.")


class Deployments:
    """Documents in which members have the ratio that they are to have now (``get``). ``state``: how a pool stands; ``health``: its
    score; ``on_change`` is called with the uuid of each group whose members have become others."""

    def __init__(
        self,
        documents: Documents,
        view: View,
        store: Records,
        metrics: Metrics,
        events: EventLog,
        clock: Clock,
        *,
        state: Callable[[str], str],
        health: Callable[[str], float],
        on_change: Callable[[str], None],
    ) -> None:
        self._documents = documents
        self._view = view
        self._store = store
        self._metrics = metrics
        self._events = events
        self._clock = clock
        self._state = state
        self._health = health
        self._on_change = on_change
        self._kept: dict[str, Kept] = {}
        self._waits: dict[str, str] = {}
        """By group: what its candidate is waited for beyond its time."""
        self.write: Callable[[str, Document], Awaitable[None]] = _nowhere
        """Puts a group's document, by its uuid, if it is still what it was made from."""

    async def load(self) -> None:
        """What an earlier controller has kept, or another one has written meanwhile."""
        found = {}
        for record in (await self._store.list(KEPT)).records:
            progress = msgspec.json.decode(record.value, type=Progress)
            found[record.key.removeprefix(KEPT)] = Kept(progress, record.version)
        changed = [uuid for uuid in self._kept.keys() | found.keys() if self._kept.get(uuid) != found.get(uuid)]
        self._kept = found
        for uuid in changed:
            self._on_change(uuid)

    # --- what is in force ---

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        document = self._documents.get(type, uuid)
        if type != "poolgroup" or document is None:
            return document
        number = candidate_of(document)
        if number is None or self._policy(document) is None:
            return document
        return {**document, "members": shared(document["members"], number, self._percent(document, number))}

    def _policy(self, group: Document) -> Document | None:
        return self._view.get(POLICY, uuid_of(group.get(FIELD) or ""))

    def _percent(self, group: Document, number: int) -> int:
        known = self._kept.get(group["uuid"])
        if known is not None and known.progress.candidate == uuid_of(group["members"][number]["pool_ref"]):
            return known.progress.percent
        return first_percent(self._policy(group) or {})

    def shown(self, uuid: str) -> dict[str, Any] | None:
        """How far a group's candidate is; None for a group without one."""
        group = self._view.get("poolgroup", uuid)
        number = candidate_of(group) if group is not None else None
        policy = self._policy(group) if group is not None else None
        if group is None or number is None or policy is None:
            return None
        known, pool = self._kept.get(uuid), uuid_of(group["members"][number]["pool_ref"])
        since = known.progress.since if known is not None else self._clock.now()
        return {
            "policy_ref": f"/api/{POLICY}/{policy['uuid']}#{policy['name']}",
            "pool_ref": f"/api/pool/{pool}#{self._view.name_of('pool', pool)}",
            "traffic_percent": self._percent(group, number),
            "target_percent": target(policy),
            "next_evaluation": int(since + duration_s(policy)),
            **({"waits_for": self._waits[uuid]} if uuid in self._waits else {}),
        }

    # --- what happens ---

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Once, at all groups."""
        under_way = set()
        for group in self._view.all("poolgroup"):
            number, policy = candidate_of(group), self._policy(group)
            if number is not None and policy is not None:
                under_way.add(group["uuid"])
                try:
                    await self._step(group, number, policy)
                except Conflict:  # another controller was quicker
                    await patiently(self.load, "the deployment of pool groups")
                except ShoalError as error:
                    log.warning("the deployment of pool group %s does not go on for now: %s", group["name"], error)
        self._waits = {uuid: why for uuid, why in self._waits.items() if uuid in under_way}
        for uuid in sorted(self._kept.keys() - under_way):
            try:
                await self._keep(uuid, None)
            except Conflict:
                await patiently(self.load, "the deployment of pool groups")
            except ShoalError as error:
                log.warning("what was kept of pool group %s can't be deleted for now: %s", uuid, error)

    async def _step(self, group: Document, number: int, policy: Document) -> None:
        uuid, now = group["uuid"], self._clock.now()
        pool = uuid_of(group["members"][number]["pool_ref"])
        known, name = self._kept.get(uuid), self._view.name_of("pool", pool)
        if known is None or known.progress.candidate != pool:
            percent = first_percent(policy)
            await self._keep(uuid, Progress(pool, percent, now))
            self._tell("STARTED", group, pool, f"{name} gets {percent} % of the requests, by {policy['name']}")
            return
        progress = known.progress
        if progress.since > now:  # the clock was set back: the time begins anew
            await self._keep(uuid, Progress(pool, progress.percent, now))
            return
        down = self._state(pool) == "OPER_DOWN"
        if not down and now - progress.since < duration_s(policy) + SETTLED_AFTER_S:
            return
        verdict = Verdict(False, "it is down") if down else self._judged(group, number, policy, progress, now)
        if verdict.kept is None:
            self._waits[uuid] = verdict.why
            return
        self._waits.pop(uuid, None)
        more = next_percent(policy, progress.percent)
        if verdict.kept and more is not None:
            await self._keep(uuid, Progress(pool, more, now))
            self._tell("RAMPED", group, pool, f"{name} gets {more} % of the requests: {verdict.why}")
            return
        await self._keep(uuid, progress)  # or another controller has gone on already
        if verdict.kept:
            await self.write(uuid, promoted(group, number, progress.percent, policy))
            self._tell("PROMOTED", group, pool, f"{name} is in service: {verdict.why}")
        else:
            await self.write(uuid, with_states(group, {number: FAILED}))
            self._tell("FAILED", group, pool, f"{name} gets nothing any more: {verdict.why}", level="warning")
        await self._keep(uuid, None)

    async def _keep(self, group: str, progress: Progress | None) -> None:
        """Raises Conflict when another controller has written it."""
        key, known = f"{KEPT}{group}", self._kept.get(group)
        conditions = (Condition(key, known.version if known is not None else 0),)
        if progress is None:
            await self._store.commit(Transaction(conditions=conditions, deletes=(key,)))
            self._kept.pop(group, None)
        else:
            value = msgspec.json.encode(progress)
            revision = await self._store.commit(Transaction(conditions=conditions, puts=((key, value),)))
            self._kept[group] = Kept(progress, revision)
        self._on_change(group)

    def _tell(self, what: str, group: Document, pool: str, text: str, *, level: str = "info") -> None:
        said = f"Pool group {group['name']}: {text}."
        self._events.add(f"POOL_DEPLOYMENT_{what}", said, level=level, poolgroup=group["uuid"], pool=pool)

    # --- judging ---

    def _judged(self, group: Document, number: int, policy: Document, progress: Progress, now: float) -> Verdict:
        candidate, seconds = progress.candidate, now - progress.since
        others = [uuid_of(group["members"][at]["pool_ref"]) for at in peers(group["members"], number)]
        ago = seconds if progress.percent >= WHOLE else 0.0  # meanwhile the others had nothing to do
        said = []
        for rule in policy.get("rules") or ():
            metric, sign = rule.get("metric_id") or HEALTH, rule.get("operator") or "CO_GE"
            value = self._figure(candidate, metric, seconds, 0.0)
            if value is None:
                return Verdict(None, "requests, to have figures of")
            wanted, whose = rule.get("threshold"), ""
            if wanted is None:
                known = (self._figure(pool, metric, seconds, ago) for pool in others)
                values = [one for one in known if one is not None]
                if not values:
                    continue
                wanted, whose = statistics.fmean(values), " of the pools in service"
            text = f"{metric} is {value:.4g}, and {SIGNS[sign]} {wanted:.4g}{whose} is the rule"
            if not OPERATORS[sign](value, float(wanted)):
                return Verdict(False, text)
            said.append(f"{metric} is {value:.4g}")
        return Verdict(True, ", ".join(said) or "nothing speaks against it")

    def _figure(self, pool: str, metric: str, seconds: float, ago: float) -> float | None:
        """Of the time that long; None where nothing was asked of the pool."""
        window = self._metrics.over(POOL, pool, seconds, ago=ago)
        if window is None or not (window.total(*RESPONSES) or window.total("connections")):
            return None
        if metric == HEALTH:
            return self._health(pool)
        known = METRICS.get(metric)
        return known.value(window) if known is not None and known.kind == POOL else None


# --- the policy ---


def duration_s(policy: Document) -> int:
    return int(policy.get("evaluation_duration", 300))


def target(policy: Document) -> int:
    return int(policy.get("target_test_traffic_ratio", WHOLE))


def _step_percent(policy: Document) -> int:
    return max(1, int(policy.get("test_traffic_ratio_rampup", WHOLE)))


def first_percent(policy: Document) -> int:
    """Of a blue-green deployment the ramp is all there is; a canary's ends at the target."""
    step = _step_percent(policy)
    return min(step, target(policy)) if policy.get("scheme") == "CANARY" else step


def next_percent(policy: Document, percent: int) -> int | None:
    """None where the candidate has proved itself."""
    if policy.get("scheme") != "CANARY" or percent >= target(policy):
        return None
    return min(percent + _step_percent(policy), target(policy))


# --- members ---


def candidate_of(group: Document) -> int | None:
    """Where the member stands that is evaluated, the first of them."""
    states = [one.get("deployment_state", "") for one in group.get("members") or ()]
    return states.index(CANDIDATE) if CANDIDATE in states else None


def _serves(member: Document) -> bool:
    return member.get("deployment_state", "") in PRODUCTION and member.get("ratio", 1) > 0


def peers(members: Sequence[Document], number: int) -> list[int]:
    """Where the members stand that share requests with that one: those in service with its label, else those with the label of
    the first in service."""
    serving = [at for at, one in enumerate(members) if at != number and _serves(one)]
    labels = [members[at].get("priority_label", "") for at in serving]
    own = members[number].get("priority_label", "")
    label = own if own in labels or not labels else labels[0]
    return [at for at, its in zip(serving, labels, strict=True) if its == label]


def shared(members: Sequence[Document], number: int, percent: int) -> list[dict[str, Any]]:
    """The members while that one gets ``percent`` of the requests and its peers the rest; without any it gets all."""
    beside = peers(members, number)
    whole = sum(members[at].get("ratio", 1) for at in beside)
    rest = WHOLE - percent if beside else 0
    found = [dict(one) for one in members]
    for at in beside:
        part = PARTS * rest * found[at].get("ratio", 1) // (WHOLE * whole)
        found[at]["ratio"] = max(1, part) if rest else 0
    found[number]["ratio"] = PARTS * percent // WHOLE if rest else 1
    if beside:
        found[number]["priority_label"] = found[beside[0]].get("priority_label", "")
    for at, one in enumerate(found):
        if at != number and one.get("deployment_state", "") == CANDIDATE:  # its turn comes
            found[at]["ratio"] = 0
    return found


def with_states(group: Document, states: Mapping[int, str]) -> dict[str, Any]:
    members = [
        {**one, "deployment_state": states[at]} if at in states else one for at, one in enumerate(group["members"])
    ]
    return {**group, "members": members}


def promoted(group: Document, number: int, percent: int, policy: Document) -> dict[str, Any]:
    """The group with its candidate in service: the others are out of it, or keep the share that they had."""
    members = shared(group["members"], number, percent)
    states = {number: IN_SERVICE}
    if policy.get("auto_disable_old_prod_pools", True):
        beside = peers(group["members"], number)
        states |= dict.fromkeys(beside, OUT)
        for at in (number, *beside):
            members[at]["ratio"] = max(1, group["members"][at].get("ratio", 1))
    return with_states({**group, "members": members}, states)
