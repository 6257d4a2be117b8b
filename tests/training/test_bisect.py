"""The one edit, component or image that made a run what it is, found by forks without it."""

from __future__ import annotations

import math
import shutil

import pytest

from command_line import run
from data.files import save, unlike
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.training import bisect
from safelight.training.bisect import Condition, condition_of, narrowed
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 16, 33])
def test_one_cause_is_found_by_log2_n_and_two_forks(n):
    for cause in range(n):
        asked = []

        def well(part, cause=cause, asked=asked):
            asked.append(tuple(part))
            return cause in part

        assert narrowed(range(n), well) == [cause]
        assert len(asked) == len(set(asked)) <= math.ceil(math.log2(n)) + 2


def test_causes_of_which_each_is_enough_are_all_found():
    for causes in ({1, 2}, {0, 15}, {3, 7, 11}, set(range(16))):
        assert set(narrowed(range(16), causes.issubset)) == causes


def test_no_cause_is_no_answer():
    assert narrowed(range(8), lambda part: False) == []
    assert narrowed([], lambda part: True) == []


@pytest.fixture(scope="module")
def ruined(finished, tmp_path_factory) -> RunDirectory:
    """A fork of the finished run with five edits, at steps 13, 15 and 17; that of optim.lr at 15 ruins it."""
    runs = tmp_path_factory.mktemp("bisected")
    shutil.copytree(finished.path, runs / "whole")
    made = fork(RunDirectory(runs / "whole"), 13, {"sample.steps": 5, "watch.every": 30}, runs, "ruined")
    with JournalWriter(made.journal_path) as writer:
        writer.intervene("a", 15, {"optim.lr": 0.5, "watch.images": 8}, "test")
        writer.intervene("b", 17, {"sample.steps": 3}, "test")
    return resume(made, World(), Show())


def test_a_planted_edit_is_found_and_the_forks_are_taken_up_again(ruined, monkeypatch, capsys):
    words = ["bisect", ruined.name, "--verdict", "raw/mse > 0.85", "--runs", str(ruined.path.parent)]
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, "Traceback" in err) == (0, False), err
    assert "cause: step 15: optim.lr = 0.5 (was 0.001)" in out
    assert int(out.splitlines()[-1].removeprefix("forks: ")) <= 5
    monkeypatch.setattr("safelight.training.start.resume", lambda *_: pytest.fail("trained again"))
    again = run(monkeypatch, capsys, *words)[1]
    assert again.splitlines() == [line for line in out.splitlines() if not line.startswith("recomputing")]


def test_a_fork_with_all_edits_is_the_run_itself(ruined):
    """Leaving out nothing repeats it bit for bit: forks differ by what is left out, and by nothing else."""
    base, candidates = bisect._edits(ruined)
    assert [edit.step for edit in candidates] == [13, 13, 15, 15, 17]
    assert {(edit.key, edit.before) for edit in candidates[:4]} == {
        ("sample.steps", 4), ("watch.every", 20), ("optim.lr", 0.001), ("watch.images", 10)
    }  # fmt: skip
    assert (candidates[4].key, candidates[4].before) == ("sample.steps", 5)
    made = bisect._without(ruined, base, candidates, [], "edits", 0, Show, print)
    assert made.digests()[30] == ruined.digests()[30]
    other = bisect._without(ruined, base, candidates, candidates, "edits", 0, Show, print)
    assert other.digests()[30] == base.digests()[30]


def test_a_planted_image_is_found(tmp_path, monkeypatch):
    for number in range(16):
        save(tmp_path / "photos" / f"{number}.png", unlike(number))
    data = {"data.source": "folder", "data.path": str(tmp_path / "photos"), "data.size": 28}
    data |= {"data.channels": 1, "data.held_out": 0.25, "network.classes": False}
    data |= {"train.steps": 2, "train.ema_lengths": []}
    trained = begin(load("digits-class", {**TINY, **data}), tmp_path / "runs", "seen", World(), Show())
    _, candidates = bisect._others(trained, "items", 0)
    cause = candidates[2].value
    monkeypatch.setattr("safelight.training.start.resume", lambda run, *_: run)

    def seen(run: RunDirectory) -> bool:
        return not any(name.startswith(f"{cause}@") for name in run.recipe_tree()["data"].get("without", ()))

    made = bisect.bisect(trained, seen, "items", 0, Show, print)
    assert [candidate.value for candidate in made.cause] == [cause]
    assert len(made.forks) <= math.ceil(math.log2(len(candidates))) + 2


def test_components_are_candidates_by_their_weight(finished):
    _, (only,) = bisect._others(finished, "components", 0)
    assert (only.key, only.value, only.before) == ("loss.weights.mse", 0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("raw/mse > 0", True), ("raw/mse<0", False), ("step >= 29", True), ("mode collapse", False)],
)
def test_a_condition_is_a_number_or_a_verdict(text, holds, finished):
    assert condition_of(text)(finished) is holds


def test_what_is_no_condition_or_no_cause_is_one_line(finished, ruined, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("def fine(run):\n    return run.step > 10**6\n")
    held: Condition = condition_of("raw/none > 1")
    with pytest.raises(UserError, match="has recorded no raw/none"):
        held(finished)
    for words, message in (
        (["--verdict", "mode colapse"], "did you mean 'mode collapse'"),
        (["--verdict", "mode collapse"], "whole: is not as --verdict says, so there is no cause to look for"),
        (
            ["--verdict", "raw/mse > 0"],
            "whole: no settings were changed; use --over components or --over items",
        ),
        (["--verdict", "raw/mse > 0", "--over", "luck"], "--over luck: is not a valid choice"),
        (["--verdict", f"{tmp_path}/mine.py:fine"], "is not as --verdict says"),
        (["--verdict", f"{tmp_path}/mine.py:other"], "does not give a function other"),
    ):
        code, _, err = run(monkeypatch, capsys, "bisect", str(finished.path), *words)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err
