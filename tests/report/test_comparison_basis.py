"""Numbers share a column if and only if they were taken the same way; otherwise the reason is said."""

from __future__ import annotations

from safelight.report.basis import Apart, Number, NumberRow, NumberTable, differing, together, worded


def row(run: str, **basis: str) -> NumberRow:
    return NumberRow(run, basis, {"mse": Number(1.0)})


def test_rows_of_equal_basis_share_a_column_in_the_order_they_came():
    columns = together([row("a", n="5"), row("b", n="9"), row("c", n="5"), row("d", n="9", split="test")])
    assert [column.runs for column in columns] == [("a", "c"), ("b",), ("d",)]
    assert [dict(column.basis) for column in columns] == [{"n": "5"}, {"n": "9"}, {"n": "9", "split": "test"}]


def test_each_column_is_told_from_the_one_that_is_most_like_it():
    table = NumberTable.of(
        [
            row("a", n="5", split="x", seed="0"),
            row("b", n="9", split="y", seed="0"),
            row("c", n="9", split="z"),
        ]
    )
    assert table.apart == (
        Apart(("b",), ("a",), (("n", "9", "5"), ("split", "y", "x"))),
        Apart(("c",), ("b",), (("split", "z", "y"), ("seed", "not stated", "0"))),
    )


def test_rows_without_a_number_are_not_told():
    assert NumberTable.of([row("a", n="5"), NumberRow("b", {"n": "6"}, {})]).columns[0].runs == ("a",)
    assert NumberTable.of([NumberRow("b", {"n": "6"}, {})]) == NumberTable()


def test_differing_names_the_facts_that_differ_and_no_others():
    assert differing({"n": "5", "hash": "e1"}, {"hash": "e1", "n": "5"}) == ()
    assert differing({"n": "5"}, {"n": "5", "hash": "e1"}) == (("hash", "not stated", "e1"),)


def test_equal_values_have_equal_words_and_others_do_not():
    assert worded(1e-4) == worded(0.0001) == "0.0001"
    assert worded(True) == "true"
    assert worded([1, [2.5, "x"]]) == "[1, [2.5, x]]"
    assert worded({"begin": 0.0, "over": 10}) == "{begin = 0, over = 10}"
    assert len({worded(value) for value in (0.1, 0.10000001, 1, "1.5", False, [1], [1, 2])}) == 7
