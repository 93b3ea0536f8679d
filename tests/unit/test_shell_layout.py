"""What is printed, on a screen of 80 columns."""

from __future__ import annotations

import pytest

from shoal.shell.layout import fitted
from shoal.shell.tables import box

UUID = "serviceenginegroup-11112222-3333-4444-5555-666677778888"


def test_prose_breaks_between_words() -> None:
    text = "bank is served by Avi-se-okpdy (primary) and Avi-se-bqicv (secondary). The latter takes over when the first fails."
    assert fitted(text, 80).splitlines() == [
        "bank is served by Avi-se-okpdy (primary) and Avi-se-bqicv (secondary). The",
        "  latter takes over when the first fails.",
    ]


@pytest.mark.parametrize(
    "line",
    ["  --description 'a. " + "b " * 60 + "'", '{"a": "' + "x. " * 60 + '"}', "API: GET https://a. " + "b " * 60],
)
def test_what_may_be_pasted_is_left_alone(line: str) -> None:
    assert fitted(line, 80) == line


def test_a_row_that_grep_picked_stays_one() -> None:
    row = "| name " + " " * 40 + "| AA-SE-Group " + " " * 60 + "|"
    assert fitted(row, 80) == "| name " + " " * 40 + "| AA-SE-Group" + " " * 19 + "|"


def test_long_cells_take_several_rows() -> None:
    table = box(
        ("Engine", "Verdict", "Why"),
        [("se-a", "no room", "10 of max_vs_per_se 10 slots used, 1 needed"), ("se-b", "down", "gone")],
    )
    assert fitted(table, 44).splitlines() == [
        "+--------+---------+-----------------------+",
        "| Engine | Verdict | Why                   |",
        "+--------+---------+-----------------------+",
        "| se-a   | no room | 10 of max_vs_per_se   |",
        "|        |         | 10 slots used, 1      |",
        "|        |         | needed                |",
        "| se-b   | down    | gone                  |",
        "+--------+---------+-----------------------+",
    ]
    assert fitted(table, 200) == table


def test_a_table_of_fields_keeps_a_field_a_row() -> None:
    table = box(("Field", "Value"), [("dp_aggressive_hb_timeout_count_and_more", "10"), ("uuid", UUID)])
    lines = fitted(table, 80).splitlines()
    assert lines[0] == "+" + "-" * 41 + "+" + "-" * 36 + "+" and len(lines[3]) == 80 and UUID in lines[4]
    assert len(lines) == 6


def test_a_uuid_that_can_not_fit_is_left_whole() -> None:
    table = box(("Name", "UUID", "Cloud"), [("a-long-name-of-a-group", UUID, "Default-Cloud")])
    assert UUID in fitted(table, 80)
