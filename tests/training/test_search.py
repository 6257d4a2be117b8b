"""A search of settings on a made-up training: what is tried, what is stopped, and what a restart keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.training.arms import ETA, Space, rungs
from safelight.training.search import STUDY, search
from tiny import TINY

pytest.importorskip("optuna")
STEPS = 54
BASE = [f"{key}={str(value).replace(chr(39), chr(34))}" for key, value in TINY.items()
        if key not in ("watch.every", "train.steps", "network.width")]  # fmt: skip
WORDS = [*BASE, f"train.steps={STEPS}", "optim.lr=1e-4..1e-1,log", "network.width=4|8"]


def space(**how) -> Space:
    return Space.of("digits-class", WORDS, **how)


class Training:
    """Stands in for `stretch`: the nearer lr is to 0.01 the lower the loss. Counts every stretch."""

    def __init__(self, dies: int = 10**9) -> None:
        self.stretches: list[tuple[str, int]] = []
        self.dies = dies

    def __call__(self, cells, runs: Path, metric: str, halt: int, seconds: float, *show):
        if len(self.stretches) >= self.dies:
            raise MemoryError  # as good as a kill: nothing of the driver runs after it
        recipe, name = cells[0]
        self.stretches.append((name, halt))
        end = abs(math.log10(recipe.optim["denoiser"].lr) + 2) + 0.1
        return "trained", "", [(step, end + 1 / step) for step in range(3, halt + 1, 3)]


def run(runs: Path, train: Training, trials: int = 12, **how):
    return search(space(), runs, trials=trials, train=train, **how)


def test_arms_are_halved_at_a_ninth_and_at_a_third_of_their_steps(tmp_path):
    train = Training()
    done = run(tmp_path, train)
    assert rungs(done.arms[0].cells[0].recipe, "held_out/mean") == [6, 18, 54]
    assert len(done.arms) == 12
    arrived = {rung: [arm for arm in done.arms if arm.steps >= rung] for rung in (6, 18, 54)}
    assert len(arrived[6]) == 12
    for rung, further in ((6, 18), (18, 54)):
        # Asynchronously: whoever is among the best third of those that came so far, in their order.
        at = {arm.number: dict(arm.course)[rung] for arm in arrived[rung]}
        on = []
        for number, value in at.items():
            before = sorted(other for place, other in at.items() if place <= number)
            on += [number] if value <= before[max(1, len(before) // ETA) - 1] else []
        assert [arm.number for arm in arrived[further]] == on
    assert {arm.fate for arm in done.arms} == {"finished", "stopped early"}
    assert done.best[0].value == min(arm.value for arm in done.arms if arm.fate == "finished")


def test_every_run_goes_on_from_its_rung_and_none_is_trained_twice(tmp_path):
    train = Training()
    run(tmp_path, train)
    assert len(set(train.stretches)) == len(train.stretches)


@pytest.mark.parametrize("dies", [0, 1, 5, 11])
def test_a_killed_search_goes_on_to_the_same_arms(tmp_path, dies):
    whole = run(tmp_path / "whole", Training())
    first, second = Training(dies), Training()
    with pytest.raises(MemoryError):
        run(tmp_path / "killed", first)
    again = run(tmp_path / "killed", second)
    assert [arm.to_dict() for arm in again.arms] == [arm.to_dict() for arm in whole.arms]
    assert len(set(first.stretches + second.stretches)) == len(first.stretches + second.stretches)


def test_a_torn_last_line_of_the_study_is_of_no_matter(tmp_path):
    whole = run(tmp_path, Training())
    path = tmp_path / whole.space.name / STUDY
    path.write_bytes(path.read_bytes() + b'{"op_code":9,"wor')
    train = Training()
    again = run(tmp_path, train)
    assert [arm.to_dict() for arm in again.arms] == [arm.to_dict() for arm in whole.arms]
    assert not train.stretches


def test_more_trials_go_on_with_the_same_study(tmp_path):
    few = run(tmp_path, Training(), trials=4)
    many = run(tmp_path, Training(), trials=12)
    assert [arm.to_dict() for arm in many.arms[:4]] == [arm.to_dict() for arm in few.arms]
    whole = run(tmp_path / "whole", Training(), trials=12)
    assert [arm.tried for arm in many.arms] == [arm.tried for arm in whole.arms]


def test_a_budget_is_of_all_calls_together(tmp_path):
    done = run(tmp_path, Training(), budget=0.0)
    assert done.over
    assert done.arms == []
    assert not run(tmp_path, Training()).over


def test_an_arm_that_diverged_is_stopped_and_a_failed_one_is_named(tmp_path):
    def train(cells, runs, metric, halt, seconds, *show):
        number = len(seen)
        seen.append(halt)
        if number == 0:
            return "trained", "", [(3, 1.0), (6, math.nan)]
        return ("failed", "out of memory", []) if number == 1 else Training()(cells, runs, metric, halt, 0)

    seen: list[int] = []
    done = search(space(), tmp_path, trials=3, train=train)
    assert [arm.fate for arm in done.arms] == ["stopped early", "failed", "finished"]
    assert done.arms[0].problem == "held_out/mean is not finite"
    assert done.arms[1].problem == "out of memory"
    assert not done.hopeless


def test_an_arm_that_is_forecast_to_end_worse_than_the_best_is_stopped(tmp_path, monkeypatch):
    from safelight.monitor.forecast import Forecast

    monkeypatch.setattr("safelight.training.search.LEAST", 1)
    monkeypatch.setattr(
        "safelight.training.search.forecast", lambda arm, ended: Forecast(54, 9.0, 8.0, 10.0, 1)
    )
    done = run(tmp_path, Training())
    assert [arm.number for arm in done.arms if arm.fate == "finished"] == [0]
    line = f"forecast to end at 9 (8 to 10); the best ended at {done.arms[0].value:.4g}"
    assert line in {arm.problem for arm in done.arms}


def test_arms_that_diverged_alike_are_no_reason_to_stop(tmp_path):
    def train(cells, runs, metric, halt, seconds, *show):
        seen.append(halt)
        return ("failed", "out of memory", []) if len(seen) == 3 else ("trained", "", [(6, math.nan)])

    seen: list[int] = []
    done = search(space(), tmp_path, trials=4, train=train)
    assert [arm.fate for arm in done.arms] == ["stopped early", "stopped early", "failed", "stopped early"]
    assert not done.hopeless


def test_where_the_first_two_fail_alike_the_rest_is_not_begun(tmp_path):
    def train(cells, *rest):
        return "failed", f"{cells[0][1]}: no such file", []

    done = search(space(), tmp_path, trials=5, train=train)
    assert done.hopeless
    assert len(done.arms) == 2


def test_an_arm_is_its_seeds_and_another_search_has_another_name(tmp_path):
    two = space(seeds=2)
    names = [cell.name for cell in two.cells({"optim.lr": 0.01, "network.width": 4})]
    assert len(names) == len(set(names)) == 2
    assert "seed=0" in names[0]
    assert "seed=1" in names[1]
    assert len({space(**how).name for how in ({}, {"seeds": 2}, {"seed": 1}, {"sampler": "random"})}) == 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optim.lr=1e-2..1e-4"], "optim.lr=1e-2..1e-4: runs from 0.01 to 0.0001; write the lower end first"),
        (["optim.lr=0..1e-4,log"], "optim.lr=0..1e-4,log: a logarithmic range begins above 0"),
        (["optim.lr=-1..1e-4"], "optim.lr: -1 should be greater than"),
        (["optim.ls=1e-4..1e-2"], "optim.ls: no such key (did you mean 'optim.lr'?)"),
        (["network.width=4.5..8.5"], "network.width: 4.5 should be a valid integer"),
        (["network.width=4|x"], "network.width: 'x' should be a valid integer"),
        (["network.width=4|4"], "network.width=4|4: expected different values"),
        (["optim.lr=1e-4,1e-2"], "optim.lr=1e-4,1e-2: is a list; with --search write optim.lr=1e-4|1e-2"),
        (["optim.lr=1e-4..1e-2", "optim.lr=1|2"], "optim.lr: is given twice"),
        (["optim.lr=1e-4"], "--search: no range; write one as"),
        (
            ["optim.lr=1e-4..1e-2", "train.epochs=3"],
            "--search: rungs are counted in steps; state train.steps",
        ),
    ],
)
def test_a_range_is_tried_on_the_recipe_before_anything_trains(words, line):
    steps = [] if "train.epochs=3" in words else ["train.steps=54"]
    with pytest.raises(UserError) as caught:
        Space.of("digits-class", [*BASE, *steps, *words])
    assert str(caught.value).startswith(line)


def test_losses_of_an_adversarial_training_rank_nothing():
    with pytest.raises(UserError, match="state a distance, such as --metric"):
        Space.of("fashion-gan", ["train.steps=100", "train.batch_size=16|32"])


def test_importance_is_of_the_key_that_matters_and_chance_of_the_other():
    from safelight.training.importance import importances

    tried = [
        {"optim.lr": 10 ** -(1 + place % 7 / 2), "network.width": 4 + 4 * (place % 2)} for place in range(21)
    ]
    values = [math.log10(each["optim.lr"]) ** 2 + 0.01 * (place * 7 % 5) for place, each in enumerate(tried)]
    shares = importances(space(), tried, values)
    assert shares["optim.lr"][0] > 0.9 > shares["optim.lr"][1]
    assert shares["network.width"][0] < shares["network.width"][1]
    assert importances(space(), tried[:7], values[:7]) == {}


def test_a_run_that_rests_at_a_rung_goes_on_to_the_bits_of_one_that_did_not(tmp_path, monkeypatch):
    from safelight.store import checkpoint_files, metrics
    from safelight.training.sweep import finish_cell

    monkeypatch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
    recipe = space().cells({"optim.lr": 0.01, "network.width": 4})[0].recipe
    recipe = recipe.with_changes({"train.steps": 8, "watch.every": 4, "watch.held_out": 8, "watch.images": 2})
    assert finish_cell(recipe, tmp_path, "whole")[:2] == ("trained", "")
    halted = [finish_cell(recipe, tmp_path, "halted", halt=halt)[0] for halt in (3, 3, 5, 8, 8)]
    assert halted == ["trained", "done before", "resumed", "resumed", "done before"]
    digests = {
        checkpoint_files.read(checkpoint_files.directory(tmp_path / name, 8)).digest
        for name in ("whole", "halted")
    }
    assert len(digests) == 1
    files = metrics.session_files(tmp_path / "halted")
    assert sum(path.read_text().count("fingerprint") for path in files) == 8  # no step twice
