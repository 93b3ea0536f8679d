"""The controller cluster: one node, or three that can outvote one."""

from __future__ import annotations

from collections import Counter

from .change import Around, Change

SIZES = (1, 3)


def check(change: Change, around: Around) -> None:
    nodes = change.document.get("nodes", ())
    if len(nodes) not in SIZES:
        change.wrong("nodes", "must be 1 node or 3 nodes", len(nodes))
    addresses = Counter(change.address(f"nodes[{i}].ip", node["ip"], 4) for i, node in enumerate(nodes))
    for what, seen in (("address", addresses), ("name", Counter(node["name"] for node in nodes))):
        for value, times in seen.items():
            if value and times > 1:
                change.wrong("nodes", f"the {what} is that of {times} nodes", value)
