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


def test_a_table_of_fields_keeps_a_field_a_row_and_its_value_whole() -> None:
    table = box(("Field", "Value"), [("dp_aggressive_hb_timeout_count", "10"), ("  uuid", UUID), ("ip", "")])
    assert fitted(table, 72).splitlines() == [
        "+--------------------------------+-------------------------------------+",
        "| Field                          | Value                               |",
        "+--------------------------------+-------------------------------------+",
        "| dp_aggressive_hb_timeout_count | 10                                  |",
        f"|   uuid     | {UUID} |",
        "| ip                             |                                     |",
        "+--------------------------------+-------------------------------------+",
    ]
    assert fitted(table, 200) == table


def test_a_value_longer_than_any_row_goes_on_below_itself() -> None:
    table = box(("Field", "Value"), [("description", "what it is for, and " * 4), ("pem", "M" * 60)])
    assert fitted(table, 44).splitlines()[3:-1] == [
        "| description | what it is for, and what   |",
        "|             | it is for, and what it is  |",
        "|             | for, and what it is for,   |",
        "|             | and                        |",
        "| pem | MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM |",
        "|     | MMMMMMMMMMMMMMMMMMMMMMMMMM         |",
    ]


@pytest.mark.parametrize("columns", [1, 5, 10, 27, 30, 47, 48])
def test_no_screen_is_too_small(columns: int) -> None:
    fields = box(("Field", "Value"), [("a_long_name_of_a_field", UUID), ("ip", "")])
    for text in (
        fields,
        fields.splitlines()[3],
        box(("a", "b", "c"), [("d e", UUID, "")]),
        "prose of a few words " * 3,
    ):
        assert fitted(text, columns)


def test_many_short_columns_fit() -> None:
    header = ("VIP", "Should answer", "Answers", "Outage foretold", "Outage", "Late answer")
    table = box(header, [("100.69.152.1 (shop)", "Avi-se-ylwgw", "Avi-se-ylwgw", "20 ms", "46 ms", "0 ms")])
    lines = fitted(table, 80).splitlines()
    assert {len(line) for line in lines} == {80} and any("Avi-se-ylwgw | Avi-se-ylwgw" in line for line in lines)


def test_a_listing_is_a_table_on_a_narrow_screen_too() -> None:
    table = box(("Name", "UUID", "Cloud"), [("Default-Group", UUID, "Default-Cloud")])
    assert fitted(table, 80).splitlines() == [
        "+---------------+----------------------------------------------+---------------+",
        "| Name          | UUID                                         | Cloud         |",
        "+---------------+----------------------------------------------+---------------+",
        "| Default-Group | serviceenginegroup-11112222-3333-4444-5555-  | Default-Cloud |",
        "|               | 666677778888                                 |               |",
        "+---------------+----------------------------------------------+---------------+",
    ]
    long = fitted(box(("Name", "UUID", "Cloud"), [("n" * 100, UUID, "c" * 50)]), 80).splitlines()
    assert {len(line) for line in long} == {80} and "".join(
        line.split("|")[1].strip() for line in long[3:-1]
    ) == "n" * 100


def test_rows_that_grep_picked_of_a_wide_table_keep_their_columns() -> None:
    rows = [("se-a", "no room", "10 of max_vs_per_se 10 slots used, 1 needed"), ("se-bb", "down", "gone | for good")]
    picked = [line for line in box(("Engine", "Verdict", "Why"), rows).splitlines() if "se-" in line]
    assert fitted("\n".join(picked), 44).splitlines() == [
        "| se-a  | no room | 10 of max_vs_per_se 10 |",
        "|       |         | slots used, 1 needed   |",
        "| se-bb | down    | gone | for good        |",
    ]


def test_tables_below_one_another_keep_their_own_columns() -> None:
    one = box(("a", "Why"), [("x" * 20, "y " * 20)])
    other = box(("Engine", "Why"), [("x" * 10, "y " * 25)])
    assert len(one.splitlines()[0]) == len(other.splitlines()[0])
    assert fitted(f"{one}\n{other}", 50) == f"{fitted(one, 50)}\n{fitted(other, 50)}"


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_what_grep_leaves_of_a_table_is_printed(columns: int) -> None:
    table = box(("Name", "UUID", "Cloud"), [("Default-Group", UUID, "Default-Cloud")]).splitlines()
    assert len(fitted("\n".join(table[::2]), columns).splitlines()) >= 3


def test_a_coloured_sentence_breaks_too() -> None:
    text = "\x1b[1;31m" + "down. " * 20 + "\x1b[0m"
    lines = fitted(text, 80).splitlines()
    assert len(lines) == 2 and all(line.startswith("\x1b[1;31m") and line.endswith("\x1b[0m") for line in lines)
