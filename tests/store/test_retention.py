"""Checkpoints within a budget: evenly spaced while a run grows, none let go that has a reason to stay."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from safelight.config import UserError
from safelight.store import checkpoint_files, listing, renaming, size
from safelight.store.checkpoint import save
from safelight.store.checkpoint_files import Checkpoint, Pin
from safelight.store.directory import RunDirectory, create, find
from safelight.store.info import Facts, Parent
from safelight.store.journal_writer import JournalWriter
from safelight.store.retention import (
    Bound,
    bound,
    bound_of,
    free,
    held,
    kept,
    longest,
    plan,
    section_of,
    spaced,
)

FACTS = Facts({}, {}, {}, {})


def made(runs: Path, name: str, steps=(), parent: Parent | None = None, recipe: str = "") -> RunDirectory:
    run = create(runs, recipe, recipe="digits", steps=300, facts=FACTS, name=name, parent=parent)
    for step in steps:
        save(run.path, step, {"memory": {"x": torch.full((1000,), float(step))}}, {})
    return run


# --- placing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [1, 3])
@pytest.mark.parametrize("most", [5, 8, 20])
def test_while_a_run_grows_the_longest_replay_stays_near_the_shortest_there_can_be(most, newest):
    now: list[int] = []
    for step in range(10, 6000, 10):
        before, now = now, [*now, step]
        now = spaced(now, now[-newest:], most)
        assert len(now) == min(step // 10, most)
        assert {*before, step} >= set(now)  # what was let go is not asked for again
        assert now[-newest:] == list(range(step, step - 10 * newest, -10))[::-1][-len(now) :]
        if step > 10 * most:
            best = math.ceil((step // 10 - newest + 1) / (most - newest + 1)) * 10 - 1
            assert longest(now) <= 2 * best


def test_as_many_as_fit_are_all_held():
    assert spaced([10, 20, 30], [30], 3) == [10, 20, 30]
    assert spaced([], [], 3) == []


def test_the_first_to_go_make_the_shortest_gaps():
    assert spaced([10, 20, 30, 40], [40], 3) == [20, 30, 40]
    assert spaced([10, 20, 30, 40], [40], 2) == [20, 40]
    assert spaced([1000, 1010, 1020, 1100], [1100], 3, first=1000) == [1010, 1020, 1100]


@given(st.sets(st.integers(1, 200), max_size=30), st.sets(st.integers(1, 200)), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_what_has_a_reason_is_never_thinned(steps, fixed, most):
    left = set(spaced(sorted(steps), fixed, most))
    assert left <= steps
    assert fixed & steps <= left
    assert len(left) == min(len(steps), max(most, len(fixed & steps)))


def test_the_bound_is_the_longest_replay_by_hand():
    seconds = dict.fromkeys(range(100), 0.5)
    assert bound([10, 40, 100], seconds) == Bound(59, 29.5, 0, 100)  # step 99, from 40
    assert bound([40, 90], seconds, first=30) == Bound(49, 24.5, 30, 100)
    assert bound([10, 40, 60], seconds) == Bound(40, 20.0, 0, 100)  # step 100 has none: from 60
    assert bound([], seconds) == Bound(100, 50.0, 0, 100)  # from the recipe
    assert bound([1, 2, 3], {}) == Bound(0, 0.0, 0, 3)
    slow = {**seconds, **dict.fromkeys(range(10, 40), 2.0)}
    assert bound([10, 40, 100], slow) == Bound(59, 58.0, 0, 100)


def test_a_bound_says_from_where_on_it_holds():
    assert bound([], {}).text == "no step recorded yet"
    assert bound([20], {}, first=20).text == "step 20, where it begins"
    assert bound([20, 21], {20: 0.1}, first=20).text == "every step from 20 on has a checkpoint"
    assert bound([1, 2], {0: 0.1, 1: 0.1}).text == "every step has a checkpoint"
    few = bound([], dict.fromkeys(range(18), 0.5))
    assert few.text == "any step by recomputing at most 18 (9.00 s when they were trained)"


# --- on disk ------------------------------------------------------------------------------------------


def test_every_checkpoint_has_its_reason(tmp_path):
    run = made(tmp_path, "city", range(10, 110, 10))
    made(tmp_path, "calmer", parent=Parent(run.info().id, 40, ""))
    made(tmp_path, "stranger", parent=Parent("0" * 32, 50, ""))
    (tmp_path / "stranger" / "run.json").write_text("damaged")
    with JournalWriter(run.journal_path) as writer:
        checkpoint_files.pin(run.path, "best", Pin(20, "FD 4.2", {}), writer)
        checkpoint_files.pin(run.path, "lost", Pin(15, "not there", {}), writer)
    each = max(checkpoint.bytes for checkpoint in held(run, Checkpoint()))
    section = Checkpoint(keep=2, budget=6 * each)
    reasons = {checkpoint.step: (checkpoint.why, checkpoint.surplus) for checkpoint in held(run, section)}
    assert reasons[20] == (("pinned as best",), False)
    assert reasons[40] == (("calmer was forked here",), False)
    assert reasons[90] == reasons[100] == (("newest",), False)
    assert {step for step, (why, _) in reasons.items() if why == ("spacing",)} == {10, 30, 50, 60, 70, 80}
    left = [step for step, (_, surplus) in reasons.items() if not surplus]
    assert left == kept(run, section, each) == [20, 40, 60, 80, 90, 100]
    assert [step for step, (_, surplus) in reasons.items() if not surplus] == left
    assert not any(checkpoint.surplus for checkpoint in held(run, Checkpoint()))


def test_a_fork_holds_what_it_began_with(tmp_path):
    run = made(tmp_path, "calmer", [33, 40, 50, 60], Parent("0" * 32, 33, ""))
    assert kept(run, Checkpoint(keep=1, budget=0), 1) == [33, 60]
    assert bound_of(run) == Bound(9, 0.0, 33, 60)
    assert bound_of(run, [33, 60]) == Bound(26, 0.0, 33, 60)


def test_freeing_lets_go_what_was_planned_and_what_was_damaged(tmp_path):
    run = made(tmp_path, "city", range(10, 110, 10))
    checkpoint_files.set_aside(checkpoint_files.directory(run.path, 30))
    section = Checkpoint(keep=2, budget="20 KB")
    planned = plan(run, section)
    assert len(checkpoint_files.list_steps(run.path)) == 9
    assert listing.by_kind(run.path)["damaged checkpoints"] == planned.damaged > 4000
    assert free(run, section) == planned
    left = checkpoint_files.list_steps(run.path)
    assert len(left) == 4
    assert left[-2:] == [90, 100]
    assert planned.bound == bound_of(run)
    assert planned.left == sum(checkpoint.bytes for checkpoint in held(run, section)) <= 20_000
    assert "damaged checkpoints" not in listing.by_kind(run.path)
    (entry,) = run.journal().entries
    assert entry.fields["steps"] == [checkpoint.step for checkpoint in planned.checkpoints]
    assert free(run, section).checkpoints == ()
    assert len(run.journal().entries) == 1


def test_a_run_that_is_written_is_not_thinned(tmp_path):
    run = made(tmp_path, "city", [10, 20])
    with run.lock(), pytest.raises(UserError, match="is being written by process"):
        free(run, Checkpoint(keep=1, budget=0))
    assert checkpoint_files.list_steps(run.path) == [10, 20]


def test_the_section_in_force_is_that_of_the_last_edit(tmp_path):
    run = made(tmp_path, "city", recipe='[checkpoint]\nevery = 7\nbudget = "1 GB"\n')
    assert section_of(run) == Checkpoint(every=7, budget=10**9)
    with JournalWriter(run.journal_path) as writer:
        writer.intervene("a", 5, {"checkpoint.budget": "2 MB", "optim.lr": 0.1}, "test")
    assert section_of(run) == Checkpoint(every=7, budget=2 * 10**6)


def test_usage_is_every_byte_once(tmp_path):
    run = made(tmp_path, "city", [10])
    (run.path / "metrics-0001.jsonl").write_bytes(b"x" * 300)
    (run.path / "films").mkdir()
    (run.path / "films" / "a.mp4").write_bytes(b"x" * 5000)
    kinds = listing.by_kind(run.path)
    assert kinds["films"] == 5000
    assert kinds["metrics"] == 300
    assert sum(kinds.values()) == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())


# --- sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [("10 GB", 10**10), ("1.5GiB", 3 * 2**29), ("500mb", 5 * 10**8), ("12", 12), (7, 7), ("0.5 kB", 500)],
)
def test_sizes_are_read(text, count):
    section = Checkpoint(budget=text)
    assert section.budget == count
    assert Checkpoint(**json.loads(section.model_dump_json())) == section


@given(st.integers(0, 10**15))
def test_a_size_in_words_is_read_back_exactly(count):
    assert TypeAdapter(size.Bytes).validate_python(size.exact(count)) == count


def test_sizes_are_told():
    words = [size.words(count) for count in (0, 999, 1000, 38_400_000, 1_250_000_000, 12e12)]
    assert words == ["0 B", "999 B", "1.0 KB", "38 MB", "1.2 GB", "12 TB"]
    assert Checkpoint().model_dump()["budget"] == "10 GB"


@pytest.mark.parametrize("text", ["ten GB", "10 gigs", "-1 GB", "1e3"])
def test_what_is_no_size_is_said(text):
    with pytest.raises(ValueError, match="is no size"):
        Checkpoint(budget=text)


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["rename.aside", "rename.name"])
def test_a_name_is_handed_over_whenever_the_power_goes(tmp_path, stage):
    class Cut(Exception):
        pass

    def cut(at: str) -> None:
        if at == stage:
            raise Cut

    old, new = made(tmp_path, "city").info().id, made(tmp_path, "branch").info().id
    with pytest.raises(Cut):
        renaming.hand_over(tmp_path, "city", "branch", "city-before-5", cut)
    now = find("city", tmp_path).info().id
    if stage == "rename.name":  # a reader finds it, and renames nothing
        assert not (tmp_path / "city").exists()
    if stage == "rename.aside":  # nothing had happened
        assert (now, find("branch", tmp_path).info().id) == (old, new)
        renaming.hand_over(tmp_path, "city", "branch", "city-before-5")
    assert find("city", tmp_path, write=True).info().id == new
    assert find("city-before-5", tmp_path).info().id == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["city", "city-before-5"]


def test_a_free_name_is_found(tmp_path):
    assert renaming.free(tmp_path, "a") == "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert renaming.free(tmp_path, "a") == "a-3"


def test_a_disk_that_cannot_rename_is_told(tmp_path, monkeypatch):
    made(tmp_path, "city")

    def refuse(*paths: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(UserError, match="read-only"):
        renaming.hand_over(tmp_path, "city", "branch", "before")
