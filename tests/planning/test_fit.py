"""A recipe of the length that the minutes allow, and the settings that go with it."""

from __future__ import annotations

import pytest

import safelight as sl
from safelight.config import UserError
from safelight.engine.plan import Optim
from safelight.planning import fit, rules
from safelight.planning.measure import Bench, Cost
from safelight.recipe import load


@pytest.fixture
def tenth(monkeypatch):
    """Steps of a tenth of a second, and measuring that takes no time."""
    monkeypatch.setattr(Bench, "time", lambda self, rows, accumulate, timed: Cost(0.1, 0.1))
    monkeypatch.setattr(fit.time, "perf_counter", lambda: 0.0)


def scaled(steps, planned=2000, **optim):
    optim = Optim(**{"lr": 2e-3, "warmup": 100, **optim})
    return {choice.key: choice.value for choice in rules.scaled(optim, 0.995, steps, planned)}


@pytest.mark.parametrize(
    ("steps", "lr", "warmup", "ema"),
    [
        (2000, 2e-3, 100, 0.995),
        (8000, 1e-3, 100, 0.99875),
        (500, 4e-3, 25, 0.98),
        (100, 5e-3, 5, 0.9),
    ],
)
def test_rate_warmup_and_average_follow_the_length(steps, lr, warmup, ema):
    assert scaled(steps) == {"optim.lr": lr, "optim.warmup": warmup, "train.ema": ema}


def test_a_recipe_above_the_highest_rate_keeps_its_rate_and_one_without_warmup_gets_none():
    assert scaled(100, lr=8e-3, warmup=0) == {"optim.lr": 8e-3, "train.ema": 0.9}
    assert scaled(100, kind="muon", lr=6e-3)["optim.lr"] == 0.015


def test_minutes_make_the_steps_and_what_is_stated_stays(tenth, tmp_path):
    small = {"train.precision": "fp32", "train.memory_format": "contiguous", "train.device": "cpu"}
    stated = {**small, "train.ema": 0.9}
    changes, line = fit.fitted(load("digits", stated), stated, 1.0, tmp_path)
    assert changes["train.steps"] == int((60 - 5 - 4) / 1.15 / 0.1) == 443
    assert (changes["watch.every"], changes["optim.lr"]) == (56, 4.2e-3)
    assert not changes.keys() & stated.keys()
    assert "443 steps in place of 2,000" in line
    assert load("digits", {**stated, **changes}).train.ema == 0.9


def test_a_recipe_with_epochs_is_given_steps_and_adversaries_keep_their_rates(tenth, tmp_path):
    small = {"train.precision": "fp32", "train.memory_format": "contiguous", "data.source": "digits"}
    changes, _ = fit.fitted(load("digits-class", small), small, 1.0, tmp_path)
    recipe = load("digits-class", {**small, **changes})
    assert (recipe.train.steps, recipe.train.epochs, recipe.watch.epochs) == (443, None, ())
    changes, _ = fit.fitted(load("fashion-gan", small), small, 1.0, tmp_path)
    assert not any(key.startswith("optim.") or key == "train.ema" for key in changes)


def test_minutes_beside_steps_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--minutes: train.steps states the length already"):
        sl.train("digits", {"train.steps": 4}, minutes=1, runs=tmp_path)
