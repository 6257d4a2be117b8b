"""A population: who takes over from whom, forks with journalled edits, and what a second call trains."""

from __future__ import annotations

import math

import pytest

from safelight.config import UserError
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.training.arms import Arm, Space
from safelight.training.population import advance, population, taken_over
from safelight.training.ranges import Axis
from tiny import TINY

SMALL = {**TINY, "train.steps": 8, "watch.every": 2, "watch.held_out": 8, "watch.images": 2}
WORDS = [f"{key}={str(value).replace(chr(39), chr(34))}" for key, value in SMALL.items()]


def arms(*values: float) -> list[Arm]:
    return [Arm(place, {}, (), [], [(1, value)]) for place, value in enumerate(values)]


def test_the_worst_quarter_goes_on_from_the_best():
    members = arms(3.0, 1.0, math.nan, 2.0, 9.0, 5.0, 6.0, 7.0)
    pairs = taken_over(members, True, 0, 0)
    assert [loser.number for loser, _ in pairs] == [2, 4]
    assert {winner.number for _, winner in pairs} <= {1, 3}
    assert [loser.number for loser, _ in taken_over(arms(3.0, 1.0, 2.0, 4.0), False, 0, 0)] == [1]
    assert pairs == taken_over(members, True, 0, 0)


def test_settings_move_a_quarter_up_or_a_fifth_down_within_their_range():
    rate = Axis("optim.lr", 1e-4, 1e-2, log=True)
    assert (rate.near(4e-3, True), rate.near(4e-3, False)) == (5e-3, 3.2e-3)
    assert (rate.near(9e-3, True), rate.near(1.1e-4, False)) == (1e-2, 1e-4)
    assert Axis("optim.warmup", 0, 5).near(1, True) == 2
    several = Axis("optim.schedule", choices=("constant", "cosine", "linear"))
    assert (several.near("cosine", True), several.near("constant", False)) == ("linear", "constant")


def test_a_fork_takes_over_with_journalled_edits_and_nothing_is_trained_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
    space = Space.of("digits-class", [*WORDS, "optim.lr=1e-4..1e-1,log"])
    first = population(space, tmp_path, 4, rounds=2)
    assert [arm.fate for arm in first.arms] == ["finished"] * 4
    (replaced,) = [arm for arm in first.arms if "round" in arm.cells[0].name]
    branch = RunDirectory(tmp_path / replaced.cells[0].name)
    parent = branch.info().parent
    assert parent.step == 4
    winner = next(
        arm for arm in first.arms if RunDirectory(tmp_path / arm.cells[0].name).info().id == parent.run
    )
    (edit,) = branch.journal().interventions
    assert (edit.step, dict(edit.changes)) == (4, replaced.tried)
    assert replaced.tried["optim.lr"] / winner.tried["optim.lr"] == pytest.approx(1.25, rel=0.25)
    assert (
        metrics.last_row(branch.path).lr["denoiser"]
        != metrics.last_row(tmp_path / winner.cells[0].name).lr["denoiser"]
    )
    before = {path: path.stat().st_size for path in tmp_path.rglob("metrics-*")}
    again = population(space, tmp_path, 4, rounds=2)
    assert [arm.to_dict() for arm in again.arms] == [arm.to_dict() for arm in first.arms]
    assert {path: path.stat().st_size for path in tmp_path.rglob("metrics-*")} == before
    assert advance(replaced.cells[0], tmp_path, space.metric, 8, math.inf)[0] == "trained"


def test_a_population_moves_what_a_run_can_change(tmp_path):
    space = Space.of("digits-class", ["train.steps=8", "network.width=4|8"])
    with pytest.raises(UserError, match=r"network\.width: cannot be edited in a run"):
        population(space, tmp_path, 4)
    space = Space.of("digits-class", ["train.steps=8", "optim.lr=1e-4..1e-1"])
    with pytest.raises(UserError, match="--population 2: a quarter"):
        population(space, tmp_path, 2)
