"""The log: each run against its parent, or the run before it of the same recipe and data."""

from __future__ import annotations

import json

import pytest

from compare_runs import DATA, Made
from safelight.config import UserError
from safelight.render.wording import number
from safelight.report.facts import gather
from safelight.report.log import log
from safelight.report.log_page import epochs_table, values_table, write_log
from safelight.store.info import Parent


@pytest.fixture
def ordered(made, monkeypatch):
    """Makes runs a minute apart."""
    from safelight.store import directory, journal

    minutes = iter(range(60))
    for module in (journal, directory.journal):
        monkeypatch.setattr(module, "utc_now", lambda: f"2026-01-01T00:{next(minutes):02d}:00.000+00:00")
    return made


def by_name(runs):
    return {entry.run.name: entry for entry in log(runs)}


def test_every_run_newest_first_against_the_run_before_it(ordered):
    runs = [ordered.read("a"), ordered.read("b", {"optim.lr": 0.01}), ordered.read("c", {"optim.lr": 0.01})]
    entries = log([runs[1], runs[2], runs[0]])
    assert [(entry.run.name, entry.before.name if entry.before else None) for entry in entries] == [
        ("c", "b"),
        ("b", "a"),
        ("a", None),
    ]
    assert [entry.number for entry in entries] == [3, 2, 1]
    assert [{change.key: change.values for change in entry.changes} for entry in entries] == [
        {},
        {"optim.lr": {"a": "0.001", "b": "0.01"}},
        {},
    ]


def test_only_a_run_of_the_same_recipe_and_data_is_the_run_before(ordered):
    runs = [
        ordered.read("a"),
        ordered.read("other-recipe", recipe="other"),
        ordered.read("other-data", data={**DATA, "fingerprint": "d2"}),
        ordered.read("b"),
    ]
    previous = by_name(runs)
    assert previous["b"].before.name == "a"
    assert previous["other-recipe"].relation == previous["other-data"].relation == "first"


def test_a_fork_is_told_against_its_parent_wherever_that_is(ordered):
    a = ordered.read("a")
    b = ordered.read("b", {"optim.lr": 0.5})
    fork = ordered.read("fork", {"optim.lr": 0.01}, parent=Parent(a.id, 50, "x"))
    orphan = ordered.read("orphan", parent=Parent("f" * 32, 50, "x"))
    logged = by_name([a, b, fork, orphan])
    assert (logged["fork"].before.name, logged["fork"].relation) == ("a", "parent")
    assert [change.key for change in logged["fork"].changes] == ["optim.lr"]
    assert (logged["orphan"].before.name, logged["orphan"].relation) == ("fork", "before")


def test_values_are_told_at_the_end_and_at_equal_images(ordered):
    short = ordered.read("short", losses=float, done=50, end="stopped")
    long = ordered.read("long", losses=lambda step: 2.0 * step, evaluated={"FD": 3.0})
    values = {value.name: value for value in by_name([short, long])["long"].values}
    mse = values["mse"]
    assert mse.end.value == pytest.approx(2 * 94.5)
    assert mse.now.value == pytest.approx(2 * 47.0)
    assert mse.before.value == pytest.approx(47.0)
    assert (values["FD"].end.value, values["FD"].before) == (3.0, None)
    assert by_name([short, long])["long"].equal_images == 500


def test_metrics_of_training_are_told_where_none_are_stored(ordered):
    columns = {"evaluate/FD": 3.0}
    runs = [ordered.read(name, extra=lambda step: columns if step == 99 else {}) for name in "ab"]
    values = {value.name: value for value in by_name(runs)["b"].values}
    assert (values["FD"].end.value, values["FD"].before.value) == (3.0, 3.0)


def test_values_that_may_not_stand_beside_each_other_say_why(ordered):
    a = ordered.read("a", evaluated={"FD": 4.0})
    b = ordered.read("b", {"method.prediction": "x0"}, evaluated={"FD": 3.0})
    entry = by_name([a, b])["b"]
    values = {value.name: value for value in entry.values}
    assert values["mse"].before is None
    assert values["mse"].why_not == "method.prediction"
    assert values["FD"].before.value == 4.0  # the same basis
    assert not entry.comparable or values["FD"].before


def test_unreadable_and_empty_runs_are_in_the_log(ordered):
    good = ordered.read("good")
    bad = ordered("bad")
    (bad.path / "run.json").write_bytes(b"{}")
    empty = ordered.read("empty", done=0, end=None)
    entries = log([gather(bad), good, empty])
    assert [line.run.name for line in entries] == ["empty", "good", "bad"]
    assert entries[0].values == ()
    json.dumps([entry.to_dict() for entry in entries])


def test_the_log_is_written_beside_the_runs(ordered: Made):
    ordered("a")
    ordered("b", {"optim.lr": 0.01}, edits=[(30, {"optim.lr": 0.02})], end="failed", done=40)
    (ordered("c").path / "journal.jsonl").unlink()
    entries, markdown, html = write_log(ordered.runs, full=1)
    assert (markdown, html) == (ordered.runs / "log.md", ordered.runs / "log.html")
    assert len(entries) == 3
    text = markdown.read_text()
    assert text.index("## b") > text.index("## All runs")
    assert "## a\n" not in text  # older than the newest one: in the table only
    assert "optim.lr 0.001 → 0.01" in text.replace("\\", "")
    assert "failed after step 40 of 100" in text
    assert "c is left out" in text
    for line in text.splitlines():
        if line.startswith("!["):
            link = line.rpartition("](")[2].rstrip(")")
            assert (ordered.runs / link).is_file()
    assert "http" not in html.read_text()


def test_a_run_where_pictures_should_go_is_not_touched(ordered):
    ordered("log_files")
    with pytest.raises(UserError, match="rename the run"):
        write_log(ordered.runs, full=5)


def test_a_fork_goes_on_from_its_parents_numbers(ordered):
    """Epochs, losses and equal budgets of a fork are those of its parent up to where it begins."""
    a = ordered.read("a", losses=lambda step: 1.0, done=150, sheets=())
    fork = ordered.read("fork", losses=lambda step: 3.0, done=150, parent=Parent(a.id, 60, "x"), sheets=())
    assert list(fork.record.steps) == list(range(1, 151))
    assert fork.record.hours[59] == 0.0
    assert fork.record.hours[-1] == pytest.approx(90 * 0.5 / 3600)
    epochs = epochs_table(fork)
    assert epochs.rows == (("1", "1"), ("2", number((10 * 1.0 + 40 * 3.0) / 50)), ("3", "3"))


def test_a_number_that_was_taken_elsewhere_says_where(ordered):
    at = lambda step, value: lambda s: {"held_out/t": value} if s == step else {}  # noqa: E731
    runs = [ordered.read("a", extra=at(49, 1.0)), ordered.read("b", extra=at(99, 2.0)), ordered.read("c")]
    rows = {entry.run.name: {row[0]: row[1:] for row in values_table(entry).rows} for entry in log(runs)}
    assert rows["b"]["t"] == ("2", "2", "1 (at 500)", "+100\u00a0%")
    only = [ordered.read("d"), ordered.read("e", evaluated={"FD": 4.0})]
    (newest, _) = log(only)
    assert {row[0]: row[3] for row in values_table(newest).rows}["FD"] == "not measured"
