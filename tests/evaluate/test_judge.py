"""Evaluating while a run trains: no bit of it changes, and the best step is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from programs import Blocks, save
from safelight.config import UserError
from safelight.data import open_data
from safelight.engine.distributed import World
from safelight.evaluate import classifier
from safelight.evaluate.evaluation import Evaluation, Result
from safelight.evaluate.judge import condition_items, open_judge
from safelight.loading.model import average_words
from safelight.recipe import load
from safelight.report.history import history_of
from safelight.report.run_report import read_run
from safelight.run import Run
from safelight.store import checkpoint_files, inbox, metrics
from safelight.store.checkpoint_files import BEST
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.training.evaluation import pin_if_best
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    return str(save(Blocks(), tmp_path_factory.mktemp("program") / "blocks.pt"))


@pytest.fixture(scope="module")
def evaluating(program) -> dict[str, object]:
    """Changes of a recipe that make it evaluate at steps 7, 14, 21, 28 and, the last, 30."""
    return TINY | {"evaluate.every": 7, "evaluate.n": 24, "evaluate.steps": 2, "evaluate.features": program}


def trained(changes, runs: Path, name: str, tell=lambda line: None) -> RunDirectory:
    return begin(load("digits-class", changes), runs, name, World(), Show(tell=tell))


@pytest.fixture(scope="module")
def whole(evaluating, tmp_path_factory) -> RunDirectory:
    return trained(evaluating, tmp_path_factory.mktemp("runs"), "evaluated")


def test_evaluating_changes_no_bit_of_the_training(whole, finished):
    assert list(metrics.read(whole.path)["fingerprint"]) == list(metrics.read(finished.path)["fingerprint"])


def test_values_and_floors_are_columns_of_the_steps_evaluated(whole):
    columns = metrics.read(whole.path)
    at = columns["step"][np.isfinite(columns["evaluate/FD-blocks"])] + 1
    assert at.tolist() == [7, 14, 21, 28, 30]
    assert len(np.unique(columns["floor/FD-blocks"][at - 1])) == 1
    assert np.isfinite(columns["evaluate/coverage"][at - 1]).all()
    assert np.isfinite(columns["held_out/t 0.0-0.2"][19]) if "held_out/t 0.0-0.2" in columns else True


def test_the_best_step_is_pinned_and_outlives_pruning(whole):
    columns = metrics.read(whole.path)
    values = columns["evaluate/FD-blocks"]
    best = int(columns["step"][np.nanargmin(values)]) + 1
    pin = checkpoint_files.read_pins(whole.path)[BEST]
    assert pin.step == best
    assert pin.facts["value"] == pytest.approx(np.nanmin(values))
    assert best in checkpoint_files.list_steps(whole.path)
    opened = Run(whole, BEST)
    assert opened.step == best
    pinned = [entry.fields["step"] for entry in whole.journal().of_kind("pin")]
    assert pinned[0] == 7
    assert pinned[-1] == best


def test_killed_and_resumed_it_finds_the_same_best(evaluating, whole, tmp_path):
    run = trained(evaluating, tmp_path, "again")
    (
        run.path / checkpoint_files.FILE
    ).unlink()  # as if killed at the first evaluation, between pinning and saving
    checkpoint_files.prune(run.path, checkpoint_files.list_steps(run.path)[:1])
    resume(run, World(), Show())
    before, after = metrics.read(whole.path), metrics.read(run.path)
    assert list(before["fingerprint"]) == list(after["fingerprint"])
    np.testing.assert_array_equal(before["evaluate/FD-blocks"][14:], after["evaluate/FD-blocks"][14:])


def test_the_report_draws_distances_over_the_steps_with_their_floor(whole):
    curves = {curve.name: curve for curve in history_of(*read_run(whole)).evaluated}
    assert list(curves) == ["FD-blocks", "KID-blocks"]
    assert curves["FD-blocks"].steps.tolist() == [7, 14, 21, 28, 30]
    assert curves["FD-blocks"].reference == metrics.read(whole.path)["floor/FD-blocks"][6]
    words = (whole.path / "report.md").read_text()
    assert "FD-blocks" in words
    assert f"Best: step {checkpoint_files.read_pins(whole.path)[BEST].step} (FD-blocks" in words


def test_whatever_is_missing_is_told_before_training(tmp_path):
    changes = TINY | {"evaluate.every": 7, "evaluate.features": "nothing.pt"}
    with pytest.raises(UserError, match=r"nothing\.pt"):
        trained(changes, tmp_path, "missing")
    assert metrics.last_row(tmp_path / "missing") is None


def test_evaluating_can_begin_and_end_by_an_edit(evaluating, program, tmp_path):
    run = trained(TINY | {"train.steps": 10}, tmp_path, "edited")
    assert "evaluate/FD-blocks" not in metrics.read(run.path)
    with run.lock(), JournalWriter(run.journal_path) as writer:
        writer.intervene("a", 10, {"evaluate.every": 5, "evaluate.features": program}, "cli")
    assert inbox.waiting(run.path) == []
    reopened = Run(run).recipe
    assert (reopened.evaluate.every, reopened.evaluate.features) == (5, program)


def test_an_edit_that_cannot_be_evaluated_does_not_end_the_run(evaluating, whole, tmp_path):
    """Dropped as the rows of step 7 are written, which the checkpoint of the first evaluation forces."""
    dropped: list[Path] = []
    warned: list[str] = []

    def rows(seen) -> None:
        if seen[-1].step >= 6 and not dropped:
            dropped.append(inbox.drop(tmp_path / "edited", {"evaluate.features": "gone.pt"}, "test"))

    show = Show(warn=warned.append, rows=rows)
    run = begin(load("digits-class", evaluating), tmp_path, "edited", World(), show)
    (edit,) = run.journal().interventions
    assert edit.step == 7
    assert [line.split(":")[0] for line in warned] == [
        f"step {step} is not evaluated" for step in (14, 21, 28, 30)
    ]
    assert all("gone.pt" in line for line in warned)
    assert run.journal().of_kind("end")[-1].fields["status"] == "finished"
    columns, usual = metrics.read(run.path), metrics.read(whole.path)
    assert list(columns["fingerprint"]) == list(usual["fingerprint"])
    measured = np.isfinite(columns["evaluate/FD-blocks"])
    assert (columns["step"][measured] + 1).tolist() == [7]
    lines: list[str] = []
    resume(run, World(), Show(tell=lines.append))  # nothing is left to train, so nothing to evaluate
    assert [line for line in lines if "finished" in line]
    assert len(run.journal().of_kind("session")) == 1


def test_data_trained_on_without_its_classes_is_measured_with_them(monkeypatch):
    monkeypatch.setattr(classifier, "FEWEST", 300)
    monkeypatch.setattr(classifier, "MOST", 300)
    monkeypatch.setattr(classifier, "VERSION", "of this test")
    recipe = load("digits-time", {})
    pack = open_data(recipe.data)
    assert pack.spec.classes == 0
    judge = open_judge(None, 100, recipe.data, pack, torch.device("cpu"), lambda line: None)
    assert judge.extractor.name == "classifier"
    assert judge.pack.spec.classes == 10
    np.testing.assert_array_equal(judge.pack.train, pack.train)


def evaluation(step: int, value: float, **basis: str) -> Evaluation:
    return Evaluation(step, "", "blocks", {"FD-blocks": Result(value)}, basis, "")


def test_a_step_is_the_best_only_against_its_like(tmp_path):
    (tmp_path / "journal.jsonl").touch()
    with JournalWriter(tmp_path / "journal.jsonl") as writer:
        assert pin_if_best(tmp_path, evaluation(10, 5.0, n="24"), writer)
        assert not pin_if_best(tmp_path, evaluation(20, 5.0, n="24"), writer)
        assert pin_if_best(tmp_path, evaluation(10, 5.0, n="24"), writer)  # killed before it was saved
        assert pin_if_best(tmp_path, evaluation(30, 4.0, n="24"), writer)
        assert pin_if_best(tmp_path, evaluation(40, 9.0, n="48"), writer)  # other numbers begin anew
        assert checkpoint_files.read_pins(tmp_path)[BEST].step == 40


def test_steps_mean_nothing_to_a_method_without_a_sampler():
    with pytest.raises(UserError, match=r"evaluate\.steps: samples of this method take no steps"):
        load("digits-denoise", {"evaluate.steps": 4})


def test_samples_are_asked_for_in_the_shares_of_the_data():
    class Pack:
        train = np.array([3, 5, 7, 11, 13])

    rows = [condition_items(Pack, range(start, start + 4)) for start in (0, 4, 8, 12, 16)]
    items = np.concatenate(rows)
    for first in range(0, 20, 5):  # each item once, before any comes again
        assert sorted(items[first : first + 5]) == [3, 5, 7, 11, 13]
    assert items[:5].tolist() != items[5:10].tolist()


def test_which_weights_were_used_is_told():
    recipe = load("digits-class", TINY)
    assert average_words(recipe, recipe.method()) == "average with decay 0.9"
    assert average_words(recipe, recipe.method(), 0.08) == "average of relative length 0.08"
    assert average_words(load("digits-class", {}), recipe.method()) == "as trained"
