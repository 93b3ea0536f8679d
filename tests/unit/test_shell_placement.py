"""How placements read in the shell: the answer first, engines that fare alike in one row, colour on a terminal only."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.shell import plan, whatif
from shoal.shell.placement import Ink, engine, group, service
from shoal.shell.times import Zone

PLAIN, COLOURED = Ink(), Ink(colour=True)


def judged(name: str, verdict: str, used: int = 0, detail: str = "", rank: int = 0, host: str = "h1") -> dict[str, Any]:
    return {
        "se_ref": f"/api/serviceengine/{name}#{name}", "serviceengine": name, "host": host, "verdict": verdict,
        "rank": rank, "slots_used": used, "slots": 10, "detail": detail,
    }  # fmt: skip


def stuck(**more: Any) -> dict[str, Any]:
    full = "10 of max_vs_per_se 10 slots used, 1 needed"
    engines = [judged(f"se-{n}", "no_room", 10, full, host=f"h{n}") for n in range(37)]
    engines += [judged("se-a", "disabled", 3, "enable_state is SE_STATE_DISABLED"), judged("se-b", "down", 0, "gone")]
    vip = {
        "vip_id": "0", "address": "10.0.0.5", "answer": "web is not served: max_se 39 is reached.", "served": False,
        "whole": False, "requested": 1, "assigned": 0, "scale_state": "SCALEOUT_RESOURCES", "reason": "",
        "would_help": "Enable se-a, or raise max_se to 40.", "armed": False, "answers": "", "placements": [],
        "standbys": [],
        "succession": [],
        "decisions": [
            {
                "at": 1.7e9, "what": "none", "serviceengine": "", "why": "max_se 39 is reached", "runner_up": "",
                "eligible": 0, "excluded": {"disabled": 1, "down": 1, "no_room": 37}, "revision": 812,
            }
        ],
        "considered": {
            "what": "none", "at": 1.7e9, "revision": 812, "as_of_now": False, "note": "", "engines": engines,
        },
        **more,
    }  # fmt: skip
    return {"virtualservice": "web", "answer": vip["answer"], "notes": [], "vips": [vip]}


def test_a_list_that_is_not_armed_yet_says_which_one_rules_until_then() -> None:
    now, before = ["/api/serviceengine/1#se-c", "/api/serviceengine/2#se-d"], ["/api/serviceengine/1#se-c"]
    told = service(stuck(succession=now, in_force=before), PLAIN)
    assert "Succession: se-c -> se-d (not armed yet; until then se-c)" in told
    assert "Succession: se-c -> se-d (armed)" in service(stuck(succession=now, in_force=now, armed=True), PLAIN)


def test_the_first_line_is_the_answer_and_the_second_what_would_help() -> None:
    lines = service(stuck(), PLAIN).splitlines()
    assert lines[0] == "web is not served: max_se 39 is reached."
    assert lines[1] == "What would help: Enable se-a, or raise max_se to 40."


def test_the_standby_of_a_legacy_pair_stands_beside_the_active_engine() -> None:
    active = {"se_ref": "/api/serviceengine/1#se-a", "role": "primary", "state": "ready", "since": 1.7e9}
    standby = {"se_ref": "/api/serviceengine/2#se-b", "ready": True}
    text = service(stuck(placements=[active], standbys=[standby]), PLAIN)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:5] == "| se-"]
    assert [row[:3] for row in rows[:2]] == [["se-a", "primary", "ready"], ["se-b", "standby", "ready"]]


def test_engines_that_fare_alike_share_a_row() -> None:
    text = service(stuck(), PLAIN)
    rows = [line for line in text.splitlines() if "no room" in line and line.startswith("|")]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == [
        "37 engines", "no room", "10/10", "37 hosts", "10 of max_vs_per_se 10 slots used, 1 needed",
    ]  # fmt: skip
    assert len(rows) == 1 and "| se-a " in text and "| se-b " in text
    assert "1 disabled, 1 down, 37 no room (revision 812)" in text


def test_the_chosen_engine_comes_first_then_the_next_best_and_many_are_counted() -> None:
    ranked = [judged(f"e{n}", "eligible", n, rank=n) for n in range(2, 30)]
    considered = {
        "what": "place", "at": 1.7e9, "revision": 8, "as_of_now": False, "note": "",
        "engines": [judged("e1", "chosen", 0, rank=1), *ranked],
    }  # fmt: skip
    decision = {
        "at": 1.7e9, "what": "place", "serviceengine": "e1", "why": "e1 is up and idle", "runner_up": "e2",
        "eligible": 29, "excluded": {}, "revision": 8,
    }  # fmt: skip
    text = service(stuck(considered=considered, decisions=[decision], served=True, whole=True, would_help=""), PLAIN)
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert table[1] == ["e1", "chosen", "0/10", "h1", "e1 is up and idle"]
    assert table[2] == ["e2", "next best", "2/10", "h1", "rank 2 of 29"]
    assert table[-1] == ["23 engines", "could take it", "7..29/10", "h1", "rank 7 and later"]
    assert "next best of 29: e2 (revision 8)" in text


def test_a_record_that_is_gone_says_so() -> None:
    note = "recomputed as things stand now, revision 7 is gone"
    considered = {**stuck()["vips"][0]["considered"], "as_of_now": True, "note": note}
    assert f"The engines ({note}):" in service(stuck(considered=considered), PLAIN)


def test_there_is_colour_on_a_terminal_only_and_names_bring_none() -> None:
    assert "\x1b" not in service(stuck(answer="\x1b[31mevil is served"), PLAIN)
    coloured = service(stuck(answer="\x1b[2Jevil is served"), COLOURED)
    assert coloured.startswith("\x1b[31m?[2Jevil") and "\x1b[2J" not in coloured


def test_an_engine_tells_what_it_serves_and_why_there() -> None:
    found = {
        "serviceengine": "se-a", "serviceenginegroup": "g", "answer": "se-a serves 1 VIP (1 of 10 slots).",
        "host": "h1", "state": "up", "enable_state": "SE_STATE_ENABLED", "why": "for web: no running engine has room",
        "slots_used": 1, "slots": 10,
        "placements": [
            {"vip": "v/0", "virtualservices": ["web", "shop"], "role": "primary", "state": "ready", "since": 1.7e9,
             "slots": 2, "why": "se-a is up and idle"},
        ],
        "successor_of": [{"vip": "w/0", "virtualservices": ["mail"], "position": 1, "owner": "se-b"}],
    }  # fmt: skip
    lines = engine(found, PLAIN).splitlines()
    assert lines[0] == "se-a serves 1 VIP (1 of 10 slots)."
    assert lines[1] == "Group g; host h1; made because: for web: no running engine has room."
    assert any("web, shop" in line and "se-a is up and idle" in line for line in lines)
    assert any("mail" in line and "se-b" in line for line in lines)


def test_a_group_tells_who_is_short_and_engines_that_are_alike_together() -> None:
    def one(name: str, **more: Any) -> dict[str, Any]:
        return {
            "serviceengine": name, "state": "up", "enable_state": "SE_STATE_ENABLED", "slots_used": 10, "slots": 10,
            "host": name, "placements": [{"vip": "v", "virtualservices": [f"for-{name}"]}] * 10, "why": "w", **more,
        }  # fmt: skip

    found = {
        "answer": "g: 1 of 9 VIPs is not served.", "buffer": {"kept": False},
        "short": [{"vip": "v", "virtualservices": ["web"], "requested": 1, "assigned": 0, "reason": "max_se is reached"}],
        "short_left_out": 3, "short_would_help": {"would_help": "Raise max_se to 6."},
        "buffer_would_help": {"would_help": "Raise max_se to 7, or lower buffer_se to 0."},
        "serviceengines": [
            *(one(f"se-{n}") for n in range(5)),
            one("se-new", state="creating", slots_used=0, placements=[], why="the N+M buffer is short"),
        ],
    }  # fmt: skip
    text = group(found, PLAIN)
    lines = text.splitlines()
    assert lines[:3] == [
        "g: 1 of 9 VIPs is not served.",
        "What would help all of them: Raise max_se to 6.",
        "What would bring the margin back: Raise max_se to 7, or lower buffer_se to 0.",
    ]
    assert "... and 3 more" in text and "| 5 engines " in text and "50 VIPs" in text
    assert text.index("se-new") < text.index("5 engines"), "what is not simply up comes first"
    assert any("se-new" in line and "being made" in line and "the N+M buffer is short" in line for line in lines)


def test_times_are_in_the_zone_of_choice() -> None:
    text = service(stuck(), PLAIN, Zone("Asia/Tokyo"))
    assert "What was decided (Asia/Tokyo):\n  2023-11-15 07:13:20  " in text
    assert "as they were judged at 2023-11-15 07:13:20 (revision 812)" in text


def test_the_worst_of_a_plan_is_listed_first() -> None:
    vips = [
        {
            "vip": f"v{n}", "virtualservices": [f"vs-{n}"], "address": f"10.0.0.{n}", "from": ["se-a"], "to": ["se-b"],
            "owner_before": "se-a", "owner_after": "se-b", "lacks": 0, "interruption": what, "why": "",
        }
        for n, what in enumerate(["handover"] * 15 + ["cut"] + ["handover"] * 10 + ["down", "drain", "wait"])
    ]  # fmt: skip
    told = {
        "sentence": "g: much.",
        "vips": vips,
        "drain_s": 30,
        "engines_made": [],
        "engines_deleted": [],
        "problems": [],
    }
    lines = plan.told({"groups": [told]}, []).splitlines()
    first = [line for line in lines if "vs-" in line][:4]
    assert [line.split()[2] for line in first] == ["vs-26", "vs-28", "vs-15", "vs-0"]


@pytest.mark.parametrize(
    ("services", "kept", "survives", "colour"),
    [
        ({"down": ["web"]}, True, 1, 31),
        ({"waiting": ["web"]}, True, 1, 31),
        ({"unplaced": ["web"]}, True, 1, 31),
        ({"interrupted": ["web"]}, True, 1, 33),
        ({}, False, 1, 33),
        ({}, True, 0, 33),
        ({}, True, 1, 32),
    ],
)
def test_the_verdict_of_a_what_if_has_the_colour_of_what_it_says(
    services: dict[str, list[str]], kept: bool, survives: int, colour: int
) -> None:
    words = ("down", "waiting", "unplaced", "interrupted", "weakened", "reduced", "exposed", "unserved")
    guarantee = {"engines": survives, "exact": True, "at_most": survives, "broken_by": []}
    margin = {"stays_up": guarantee, "keeps_capacity": guarantee, "of_engines": 3, "worst_host": ""}
    buffer = {"free": 4, "slots": 12, "needed": 4, "kept": kept}
    connections: dict[str, Any] = {"lost": 0, "drained": 0, "not_known_of": []}
    answer: dict[str, Any] = {
        "verdict": ["The first sentence.", "The second."], "vips": [], "edits": [], "fails": [], "notes": [],
        "warnings": [], "virtualservices": {**{word: [] for word in words}, **services}, "connections": connections,
        "engines": {"made": 0, "deleted": [], "deleted_when_idle": []}, "margin": {"before": margin, "after": margin},
        "capacity": dict.fromkeys(("before", "right_after", "in_the_end"), buffer),
        "times": {"engine_creation_ms": 1400.0, "failure_detection": {"detection_ms": 300}},
    }  # fmt: skip
    lines = whatif.told(answer, ink=COLOURED).splitlines()
    assert lines[:2] == [f"\x1b[{colour}mThe first sentence.\x1b[0m", "The second."]
    assert whatif.told(answer).startswith("The first sentence.\nThe second.\n")
