"""Whether an AlertConfig's rule holds: pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shoal.controller.events import Event

Rule = Mapping[str, Any]
EVENTS, FIGURES = "EVENT_LOGS", "METRICS"
OR = "OPERATOR_OR"
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "ALERT_OP_LT": operator.lt,
    "ALERT_OP_LE": operator.le,
    "ALERT_OP_EQ": operator.eq,
    "ALERT_OP_NE": operator.ne,
    "ALERT_OP_GE": operator.ge,
    "ALERT_OP_GT": operator.gt,
}
DURATION_S = 300
"""Of a rule on figures that says none."""
_FILTER = re.compile(r"(eq|ne|co|nc)\(([a-z_]+),(.*)\)")


def holds(config: Rule, event: Event) -> bool:
    """For an event. Without any condition nothing matches: an alert on everything says so (``co(all,)``)."""
    rule = config.get("alert_rule") or {}
    found = [_event(one, event) for one in rule.get("sys_event_rule") or ()]
    if text := rule.get("event_match_filter"):
        found.append(_matches(str(text), event))
    return _joined(rule, found)


def exceeds(rule: Rule, values: Sequence[Sequence[float]]) -> bool:
    """For figures: ``values`` are each metric rule's, of its duration. What was not measured does not exceed."""
    rules = rule.get("metrics_rule") or ()
    return _joined(rule, [_figures(one, some) for one, some in zip(rules, values, strict=True)])


def _joined(rule: Rule, found: Sequence[bool]) -> bool:
    if not found:
        return False
    return any(found) if rule.get("operator") == OR else all(found)


def _event(rule: Rule, event: Event) -> bool:
    same = rule.get("event_id") in (None, "", event.name)
    same = same and all(_detail(detail, event) for detail in rule.get("event_details") or ())
    return same is not bool(rule.get("not_cond"))


def _detail(detail: Rule, event: Event) -> bool:
    have = event.objects.get(
        str(detail["event_details_key"]), event.detail if detail["event_details_key"] == "detail" else ""
    )
    return COMPARE[detail.get("comparator", "ALERT_OP_EQ")](have, str(detail["event_details_value"]))


def _matches(text: str, event: Event) -> bool:
    """``eq(event_id,[SE_DOWN,SE_UP])``, ``co(all,words)``, several joined by ``;`` must all hold."""
    return all(_one(part.strip(), event) for part in text.split(";") if part.strip())


def _one(text: str, event: Event) -> bool:
    found = _FILTER.fullmatch(text)
    if found is None:
        return False
    how, field, value = found.groups()
    wanted = [item.strip() for item in value.strip("[]").split(",")]
    have = {"event_id": event.name, "level": event.level}.get(field)
    if have is None:
        everything = " ".join([event.name, event.detail, *event.objects.values()])
        have = event.objects.get(field, "") if field not in ("all", "event_description") else everything
    hit = any(item in have for item in wanted) if how in ("co", "nc") else have in wanted
    return hit is (how in ("eq", "co"))


def _figures(rule: Rule, values: Sequence[float]) -> bool:
    threshold = rule["metric_threshold"]
    compare = COMPARE[threshold.get("comparator", "ALERT_OP_GT")]
    return bool(values) and all(compare(value, threshold.get("threshold", 0)) for value in values)


def unreadable(text: str) -> str:
    """The part of a filter that can't be read; "" if there is none."""
    return next((p.strip() for p in text.split(";") if p.strip() and not _FILTER.fullmatch(p.strip())), "")
