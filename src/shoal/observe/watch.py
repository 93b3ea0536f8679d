"""What probes say of one VIP: who answers for it, whether it takes connections, and when that changes. Pure.

A probe is a question by ARP and the SYN of a connection, sent together. Times are monotonic seconds.
"""

from __future__ import annotations

import math

import msgspec

ANSWER_WITHIN_S = 0.05
"""Answers on one segment take less than a millisecond; a busy machine may take some tens."""
OUTAGE_TOLD_AFTER_S = 0.5
"""An outage as long as this is told at once, not only recorded."""
QUICK_S = 2.0
"""So long after a change the VIP is looked at closely."""
NEVER = -math.inf

ANSWERS = "answers"
"""Another MAC than before answers ARP, or announces the address."""
STRANGER = "stranger"
"""It is no engine's."""
TWO = "two answer"
ONE = "one answers"
SILENT = "silent"
"""Nobody answers ARP."""
SERVES = "serves"
"""Connections are taken (again); ``ms``: since the first probe that failed was sent."""
REFUSES = "refuses"
UNCONNECTED = "no connection"
"""A SYN got no answer."""
OUTAGE = "outage"
"""It has not been served for `OUTAGE_TOLD_AFTER_S`; ``ms``: how long."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``port``: a TCP port that should be served there; 0 = none."""

    vip: str
    address: str
    port: int = 0


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """``engines``: MAC -> engine id. Replaces the targets before; what stays is not disturbed."""

    engines: dict[str, str]
    vips: tuple[Target, ...]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A change. ``about`` is a MAC. ``told``: somebody should hear of it at once."""

    kind: str
    vip: str
    at: float
    about: str = ""
    text: str = ""
    ms: float = 0.0
    told: bool = False


class Probe(msgspec.Struct, kw_only=True, eq=False):
    """One that was sent. ``macs``: who answered the question. ``taken``: whether the connection was; None = no answer."""

    sent: float
    connects: bool
    macs: list[str] = []
    taken: bool | None = None

    @property
    def whole(self) -> bool:
        """Somebody answered, and the connection was taken: nothing will be missing when it is judged."""
        return bool(self.macs) and (self.taken is True or not self.connects)


class Watch:
    """Of one VIP. Each method returns what changed."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.mac = ""
        """Whom a client would send to: the last that answered or announced."""
        self.served: bool | None = None
        """None = never yet, since it is watched."""
        self.quick_until = NEVER
        self._silent = False
        self._two = False
        self._stranger = ""
        self._stranger_at = NEVER
        self._probe: Probe | None = None
        self._good_at = NEVER
        self._failed_at = NEVER
        self._failures = 0
        self._told = False

    def ask(self, now: float) -> Probe:
        """A probe is sent."""
        self._probe = Probe(sent=now, connects=bool(self.target.port and self.mac))
        return self._probe

    def heard(self, mac: str, now: float, engines: dict[str, str], *, asked: bool) -> list[Finding]:
        """``mac`` says it has the address; ``asked``: to this prober."""
        found = []
        if asked and self._probe is not None:
            self._probe.macs.append(mac)
        if mac != self.mac:
            if not self._two:
                found.append(self._finding(ANSWERS, now, mac, f"before: {self.mac}" if self.mac else "the first one"))
            self.mac = mac
            self.quick_until = now + QUICK_S
        elif self._silent:
            found.append(self._finding(ANSWERS, now, mac, "again"))
        self._silent = False
        if mac not in engines and self._stranger != mac:
            self._stranger, self._stranger_at = mac, now
            found.append(self._finding(STRANGER, now, mac, "the MAC is no engine's", told=True))
        return found

    def answered(self, probe: Probe, mac: str, now: float, *, taken: bool) -> list[Finding]:
        probe.taken = taken
        if not taken:
            return self._failed(probe, REFUSES, mac, "the connection is refused", now)
        failed, self._good_at = self._failures, now
        was, self.served, self._failures, told, self._told = self.served, True, 0, self._told, False
        if was:
            return []
        if was is None:
            return [self._finding(SERVES, now, mac, "the first connection")]
        ms = (now - self._failed_at) * 1000
        return [self._finding(SERVES, now, mac, f"after {failed} failed probes", ms=ms, told=told)]

    def judge(self, probe: Probe, now: float) -> list[Finding]:
        """The time for answers to ``probe`` is over."""
        found = []
        macs = sorted(set(probe.macs))
        if macs and self._stranger not in macs and probe.sent > self._stranger_at:
            self._stranger = ""
        if len(macs) > 1 and not self._two:
            self._two = True
            text = f"{' and '.join(macs)} answer the same question"
            found.append(self._finding(TWO, probe.sent, macs[-1], text, told=True))
        elif len(macs) == 1 and self._two:
            self._two = False
            found.append(self._finding(ONE, probe.sent, macs[0], "alone again"))
        if not macs and self.mac and not self._silent and not (self._probe and self._probe.macs):
            self._silent = True
            self.quick_until = now + QUICK_S
            found.append(self._finding(SILENT, probe.sent, self.mac, "no answer to ARP"))
        if probe.connects and probe.taken is None and self._good_at < probe.sent:
            found += self._failed(probe, UNCONNECTED, self.mac, "no answer to SYN", now)
        return found

    def _failed(self, probe: Probe, kind: str, mac: str, text: str, now: float) -> list[Finding]:
        if self.served is None:
            return []
        found = []
        self._failures += 1
        if self.served:
            self.served = False
            self._failed_at = probe.sent
            self.quick_until = now + QUICK_S
            good = f"; the last good one {(probe.sent - self._good_at) * 1000:.0f} ms before"
            found.append(self._finding(kind, probe.sent, mac, text + good))
        if not self._told and now - self._failed_at >= OUTAGE_TOLD_AFTER_S:
            self._told = True
            ms = (now - self._failed_at) * 1000
            found.append(self._finding(OUTAGE, now, mac, text, ms=ms, told=True))
        return found

    def _finding(self, kind: str, at: float, about: str, text: str, *, ms: float = 0.0, told: bool = False) -> Finding:
        return Finding(kind=kind, vip=self.target.vip, at=at, about=about, text=text, ms=ms, told=told)
