"""What a cloud writes for an engine it makes: ``engine.json`` in the engine's own directory."""

from __future__ import annotations

import msgspec

JOIN_KEY, JOIN_TOKEN = "join-key.pem", "join.pem"


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the agent (``python -m shoal.engine engine.json``) needs to find its controller.

    ``directory`` is the engine's own; beside this file stand ``ca.pem`` and `JOIN_KEY` and `JOIN_TOKEN`, which are used
    once to get ``certificate.pem`` for a ``key.pem`` that the engine makes; the
    agent keeps there its haproxy.cfg, sockets, pid files, logs and the last desired state.
    """

    id: str
    name: str
    rank: int
    directory: str
    controllers: tuple[str, ...]
    """``host:port`` of the controllers' wire listeners."""
    interface: str = "eth0"
    address: str = ""
    prefix_length: int = 0
    mac: str = ""
    memory_mb: int = 2048
    threads: int = 1
    """Of HAProxy; no more than the machine has CPUs."""
    hard_stop_after_s: int = 600
    """How long an HAProxy worker that a reload has replaced may keep its connections."""
    old_workers_max: int = 20
    """So many of them may live at once; further reloads wait."""
    recorder: str = ""
    """The folder of the flight recorder's files, best in memory (tmpfs); "" = ``directory``."""
