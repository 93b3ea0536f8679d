"""Which pool a connection goes to by its port and its client: service_pool_select and L4 policy sets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.wire import policy

from .policies import networks_of
from .protocols import Documents

Document = Mapping[str, Any]
TCP = "PROTOCOL_TCP"
KINDS = {"PROTOCOL_TCP": "tcp", "PROTOCOL_UDP": "udp"}


def selection_rules_of(documents: Documents, service: views.VirtualService) -> tuple[policy.Rule, ...]:
    """For TCP ports, HTTP among them. L4 policies go first, in the order of their index."""
    return (*_of_policies(documents, service), *_of_ports(documents, service))


def _of_policies(documents: Documents, service: views.VirtualService) -> Iterator[policy.Rule]:
    for link in sorted(service.l4_policies, key=lambda link: link.index):
        found = documents.get("l4policyset", uuid_of(link.l4_policy_set_ref)) or {}
        rules = (found.get("l4_connection_policy") or {}).get("rules") or ()
        for rule in sorted(rules, key=lambda rule: rule["index"]):
            match = rule.get("match") or {}
            if rule.get("enable", True) and of_tcp(match.get("protocol")):
                chosen = (rule.get("action") or {}).get("select_pool") or {}
                yield from _rule(
                    documents,
                    rule["name"],
                    tuple(_tests(documents, match)),
                    chosen.get("pool_ref", "") if chosen.get("action_type") == "L4_RULE_ACTION_SELECT_POOL" else "",
                    chosen.get("pool_group_ref", ""),
                )


def _of_ports(documents: Documents, service: views.VirtualService) -> Iterator[policy.Rule]:
    for one in service.service_pool_select:
        if "UDP" not in one.service_protocol:
            last = one.service_port_range_end or one.service_port
            test = policy.Test(of="port", values=(f"{one.service_port}:{last}",))
            name = f"port {one.service_port}"
            yield from _rule(documents, name, (test,), one.service_pool_ref, one.service_pool_group_ref)


def _rule(
    documents: Documents, name: str, tests: tuple[policy.Test, ...], pool: str, group: str
) -> Iterator[policy.Rule]:
    """None where the pool or group is gone: its deletion is on the way."""
    pool, group = uuid_of(pool), "" if pool else uuid_of(group)
    if documents.get("pool", pool) is not None or documents.get("poolgroup", group) is not None:
        switch = policy.Switch(pool=pool, group=group)
        yield policy.Rule(name=name, phase=policy.SELECTION, tests=tests, actions=(switch,))


def of_tcp(match: Document | None) -> bool:
    """Whether a rule that matches protocols so can be about TCP."""
    return match is None or (match["protocol"] == TCP) == (match["match_criteria"] == "IS_IN")


def _tests(documents: Documents, match: Document) -> Iterator[policy.Test]:
    if clients := match.get("client_ip"):
        negated = clients["match_criteria"] == "IS_NOT_IN"
        yield policy.Test(of="client", values=tuple(networks_of(documents, clients)), negated=negated)
    if port := match.get("port"):
        ranges = (f"{one['start']}:{one['end']}" for one in port.get("port_ranges") or ())
        values = (*map(str, port.get("ports") or ()), *ranges)
        yield policy.Test(of="port", values=values, negated=port["match_criteria"] == "IS_NOT_IN")
