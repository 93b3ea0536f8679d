"""What everybody noted, in one order, and the story of a takeover told from it."""

from __future__ import annotations

from typing import Any

from shoal.observe.timeline import Entry, entries_of, merge
from shoal.wire.recorded import Record, Recording

T = 1_000_000.0


def entry(after: float, who: str, what: str, **more: Any) -> Entry:
    part = more.pop("part", "" if who in ("prober", "controller") else "guard")
    return Entry(at=T + after / 1000, who=who, what=what, part=part, **more)


TAKEOVER = (
    entry(-80.0, "se1", "last beat"),
    entry(0.0, "se2", "session ended", about="se1"),
    entry(0.4, "se3", "session ended", about="se1"),
    entry(1.3, "se2", "claim", vip="shop"),
    entry(4.0, "prober", "no connection", vip="shop", about="se1"),
    entry(21.3, "se2", "take", vip="shop"),
    entry(21.5, "se2", "announce", vip="shop"),
    entry(21.6, "se2", "took", vip="shop", about="se1", text="se1 died"),
    entry(22.0, "prober", "answers", vip="shop", about="se2"),
    entry(24.0, "prober", "serves", vip="shop", about="se2", ms=20.0),
    entry(25.0, "controller", "VS_ADD_SE", vip="shop", about="se2"),
    entry(180.0, "controller", "decision: promote", vip="shop", about="se2"),
)


def test_a_takeover_is_told_in_order_from_its_first_sign() -> None:
    incident = merge(reversed(TAKEOVER), T - 60)
    assert incident.zero == T
    assert [e.after_ms for e in incident.entries] == [
        -80.0,
        0.0,
        0.4,
        1.3,
        4.0,
        21.3,
        21.5,
        21.6,
        22.0,
        24.0,
        25.0,
        180.0,
    ]
    (account,) = incident.takeovers
    assert (account.vip, account.former, account.taker, account.sign) == ("shop", "se1", "se2", "session ended (se2)")
    steps = (
        account.noticed_ms,
        account.claimed_ms,
        account.took_ms,
        account.answers_ms,
        account.serves_ms,
        account.heard_ms,
    )
    assert steps == (0.0, 1.3, 21.3, 22.0, 24.0, 25.0) and account.adopted_ms == 180.0 and account.outage_ms == 20.0
    assert account.sentence == (
        "shop: se1: session ended (se2) at +0.0; se2 noticed +0.0, se2 claimed it +1.3, se2 took it +21.3, the prober heard its MAC +22.0, "
        "connections were taken again +24.0, the controller heard of it +25.0, it adopted the takeover +180.0; "
        "out for 20 ms"
    )


def test_what_was_not_seen_is_left_out() -> None:
    incident = merge([e for e in TAKEOVER if e.who != "prober"], T - 60)
    (account,) = incident.takeovers
    assert account.answers_ms is None and "the prober saw no outage" in account.sentence


def test_zero_is_the_first_sign_of_the_last_incident() -> None:
    earlier = [
        entry(-30_000.0, "se2", "session ended", about="se9"),
        entry(-25_000.0, "se2", "peer silent", about="se9"),
    ]
    incident = merge([*earlier, *TAKEOVER], T - 60)
    assert incident.zero == T and incident.entries[0].after_ms == -30_000.0
    assert len(incident.takeovers) == 1


def test_a_takeover_of_the_incident_before_is_not_told_again() -> None:
    later = entry(60_000.0, "se4", "haproxy down")
    assert merge([*TAKEOVER, later], T - 60).takeovers == ()


def test_several_vips_have_several_accounts_and_a_second_failure_its_own_sign() -> None:
    second = [
        entry(21.4, "se2", "take", vip="mail"),
        entry(21.7, "se2", "took", vip="mail", about="se1"),
        entry(3000.0, "se3", "session ended", about="se2"),
        entry(3021.0, "se3", "take", vip="shop"),
        entry(3021.2, "se3", "took", vip="shop", about="se2"),
    ]
    found = [(a.vip, a.former, a.taker, a.took_ms) for a in merge([*TAKEOVER, *second], T - 60).takeovers]
    assert found == [("shop", "se1", "se2", 21.3), ("mail", "se1", "se2", 21.4), ("shop", "se2", "se3", 21.0)]


def test_a_planned_move_is_no_takeover() -> None:
    moved = [entry(0.0, "se2", "took", vip="shop", about="se1", text="se1 resigned"), entry(5.0, "se2", "announce")]
    incident = merge(moved, T - 60)
    assert incident.zero == 0.0 and incident.takeovers == () and len(incident.entries) == 2


def test_what_is_older_than_asked_for_is_left_out() -> None:
    assert merge(TAKEOVER, T + 0.023).zero == 0.0
    assert [e.what for e in merge(TAKEOVER, T + 0.0235).entries] == ["serves", "VS_ADD_SE", "decision: promote"]


def test_records_are_put_on_the_controllers_clock_and_named() -> None:
    record = Record(7, 5_000_000_000, 0, "took", "vsvip-1/1", "id-1", "id-1 died", 2.5)
    recording = Recording(writer="guard", boot="b", alive_ns=5_100_000_000, records=(record,))
    shift = T - 5.0

    def entries(now: float) -> list[Entry]:
        named = {"id-1": "se1", "id-1 died": "se1 died"}
        return entries_of(
            recording, "se2", lambda ns: ns / 1e9 + shift, lambda t: named.get(t, t), {"vsvip-1/1": "shop"}, now
        )

    took = Entry(at=T, who="se2", part="guard", what="took", vip="shop", about="se1", text="se1 died", ms=2.5)
    assert entries(T + 0.2) == [took], "it was alive just now"
    _, beat = entries(T + 3.0)
    assert (beat.what, round(beat.at - T, 3)) == ("last beat", 0.1)
