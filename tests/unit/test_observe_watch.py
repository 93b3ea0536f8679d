"""What probes say of one VIP, told as findings: only changes, each at the time it happened."""

from __future__ import annotations

from shoal.observe.watch import ANSWER_WITHIN_S, Finding, Probe, Target, Watch

ONE, OTHER, ALIEN = "02:00:00:00:00:01", "02:00:00:00:00:02", "66:00:00:00:00:99"
ENGINES = {ONE: "se-1", OTHER: "se-2"}
STEP_S = 0.1


class Segment:
    """A VIP, who answers for it now, and the probes: one each `STEP_S`."""

    def __init__(self, port: int = 80) -> None:
        self.watch = Watch(Target(vip="v", address="10.0.0.9", port=port))
        self.now = 100.0
        self.macs: tuple[str, ...] = (ONE,)
        self.takes: bool | None = True
        """A connection is taken, refused (False), or its SYN lost (None)."""

    def probe(self, times: int = 1) -> list[Finding]:
        found: list[Finding] = []
        for _ in range(times):
            probe = self.watch.ask(self.now)
            for mac in self.macs:
                found += self.watch.heard(mac, self.now + 0.001, ENGINES, asked=True)
            if probe.connects and self.takes is not None:
                found += self.watch.answered(probe, self.watch.mac, self.now + 0.002, taken=self.takes)
            found += self.watch.judge(probe, self.now + ANSWER_WITHIN_S)
            self.now += STEP_S
        return found

    def announce(self, mac: str) -> list[Finding]:
        return self.watch.heard(mac, self.now, ENGINES, asked=False)


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


def settled(port: int = 80) -> Segment:
    segment = Segment(port)
    assert kinds(segment.probe(3)) == (["answers", "serves"] if port else ["answers"])
    return segment


def test_a_vip_that_is_well_is_no_news() -> None:
    assert settled().probe(50) == []


def test_a_vip_that_was_never_served_is_not_missed() -> None:
    segment = Segment()
    segment.macs, segment.takes = (), None
    assert segment.probe(20) == []
    segment.macs, segment.takes = (ONE,), False
    assert kinds(segment.probe(20)) == ["answers"]


def test_a_takeover_is_heard_and_its_outage_counted_from_the_first_failed_probe() -> None:
    segment = settled()
    segment.macs, segment.takes = (), None
    failed_at = segment.now
    silent, unconnected = segment.probe()
    assert (silent.kind, silent.at, silent.about) == ("silent", failed_at, ONE)
    assert (unconnected.kind, unconnected.at) == ("no connection", failed_at)
    assert "98 ms before" in unconnected.text
    (announced,) = segment.announce(OTHER)
    assert (announced.kind, announced.about, announced.text) == ("answers", OTHER, f"before: {ONE}")
    segment.macs, segment.takes = (OTHER,), True
    (serves,) = segment.probe()
    assert serves.kind == "serves" and round(serves.ms) == 102 and not serves.told
    assert segment.probe(20) == []


def test_a_takeover_between_two_probes_is_heard_and_no_outage() -> None:
    segment = settled()
    segment.macs = (OTHER,)
    assert kinds(segment.announce(OTHER) + segment.probe(5)) == ["answers"]


def test_a_long_outage_is_told_once_and_its_end_too() -> None:
    segment = settled()
    segment.takes = False
    found = segment.probe(20)
    assert kinds(found) == ["refuses", "outage"]
    assert [finding.told for finding in found] == [False, True] and found[1].ms >= 500
    segment.takes = True
    (serves,) = segment.probe()
    assert serves.told and round(serves.ms) == 2002
    assert segment.probe(20) == []


def test_two_that_answer_one_question_are_told_until_one_is_alone() -> None:
    segment = settled()
    segment.macs = (ONE, OTHER)
    found = segment.probe(10)
    two = [finding for finding in found if finding.kind == "two answer"]
    assert len(two) == 1 and two[0].told and ONE in two[0].text and OTHER in two[0].text
    assert len(found) == 2, "they are not counted as takeovers, one after the other"
    segment.macs = (OTHER,)
    assert kinds(segment.probe(10)) == ["one answers"]


def test_one_after_the_other_is_not_two() -> None:
    segment = settled()
    for mac in (OTHER, ONE, OTHER):
        segment.macs = (mac,)
        assert kinds(segment.probe(3)) == ["answers"]


def test_a_stranger_is_told_once() -> None:
    segment = settled()
    segment.macs = (ALIEN,)
    found = segment.probe(5)
    assert kinds(found) == ["answers", "stranger"] and found[1].told and found[1].about == ALIEN
    segment.macs = (ONE,)
    assert kinds(segment.probe(5)) == ["answers"]
    segment.macs = (ALIEN,)
    assert "stranger" in kinds(segment.probe(5)), "it has come back"


def test_without_a_port_only_the_answerer_is_watched() -> None:
    segment = settled(port=0)
    segment.macs = ()
    assert kinds(segment.probe(3)) == ["silent"]
    segment.macs = (ONE,)
    assert kinds(segment.probe(3)) == ["answers"]


def test_a_late_answer_ends_the_outage() -> None:
    segment = settled()
    segment.takes = None
    assert kinds(segment.probe()) == ["no connection"]
    late = Probe(sent=segment.now - STEP_S, connects=True)
    assert kinds(segment.watch.answered(late, ONE, segment.now, taken=True)) == ["serves"]
