"""A run is trained on: exact, replayable, and its learning rate does not jump without being told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import safelight as sl
from safelight.cli.options import seconds_of
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.replay import replay
from safelight.loading.seam import joined
from safelight.recipe import load
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.listing import summary
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

SHORT = TINY | {"watch.every": 50, "watch.held_out": 0, "checkpoint.every": 4, "train.steps": 6}


def made(runs: Path, name: str, **changes: object) -> RunDirectory:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return begin(load("digits-class", SHORT | keys), runs, name, World(), Show())


def digest(run: RunDirectory) -> str:
    steps = checkpoint_files.list_steps(run.path)
    return checkpoint_files.read(checkpoint_files.directory(run.path, steps[-1])).digest


@pytest.mark.parametrize("schedule", [{"optim__schedule": "constant"}, {"optim__schedule": "wsd"}])
def test_extended_equals_planned_for_the_whole_length(schedule, tmp_path):
    """Also with wsd, where it has not begun to decay at the step of either."""
    keys = schedule | {"optim__decay": 0.1}
    whole = made(tmp_path, "whole", train__steps=11, **keys)
    run = made(tmp_path, "run", **keys)
    resume(run, World(), Show(), {"train.steps": 11})
    (edit,) = run.journal().interventions
    assert (edit.step, dict(edit.changes)) == (6, {"train.steps": 11})
    assert digest(run) == digest(whole)
    assert (summary(run).status, summary(run).step, summary(run).steps) == ("finished", 11, 11)


def test_the_rate_stays_where_it_ended_and_every_step_can_be_replayed(tmp_path):
    lines: list[str] = []
    run = made(tmp_path, "run", optim__unit="step")
    resume(run, World(), Show(warn=lines.append), {"train.steps": 9})
    rates = list(metrics.read(run.path)["lr/denoiser"])
    assert len(set(rates[:6])) == 6  # exponential
    assert set(rates[5:]) == {rates[5]}
    assert f"learning rate: {rates[5]:.3g} before step 6, {rates[5]:.3g} from there" in lines[0]
    assert replay(run, 9)[1].verdict == "checkpoint matches the journal"
    assert replay(run, 7)[1].verdict == "exact"


def test_a_stopped_run_is_resumed_longer_too_and_tune_can_lengthen_a_finished_one(tmp_path):
    run = made(tmp_path, "run", optim__schedule="constant")
    sl.tune(run.name, {"train.steps": 8}, runs=tmp_path)
    resume(run, World(), Show())
    assert summary(run).step == 8
    with pytest.raises(UserError, match=r"train.steps=8: the run is at step 8 already"):
        resume(run, World(), Show(), {"train.steps": 8})
    with pytest.raises(UserError, match=r"train.batch_size: cannot be edited"):
        resume(run, World(), Show(), {"train.batch_size": 8})
    fork = sl.fork(run.name, changes={"train.steps": 9}, train=False, runs=tmp_path, name="fork").directory
    assert fork.info().parent.step == 8
    resume(fork, World(), Show())
    assert summary(fork).step == 9


COSINE = load("digits", {"train.steps": 1000, "optim.warmup": 0, "optim.lr": 1.0, "optim.final": 0.1})


@pytest.mark.parametrize(
    ("join", "at_500", "at_600"),
    [
        ("constant", 0.55, 0.55),  # half way of the cosine from 1 to 0.1
        ("extend", 0.1 + 0.9 * (1 + 2**-0.5) / 2, None),  # a quarter of the way
        ("restart", 1.0, 0.1 + 0.9 * (1 + 0.9781476) / 2),  # cos(pi 100 / 1500)
    ],
)
def test_the_schedule_at_the_seam(join, at_500, at_600):
    changes, line = joined(COSINE, 1, 500, {"train.steps": 2000}, join)
    plan = COSINE.with_changes(changes).plan(1)
    optim = plan.optim["denoiser"]
    assert optim.lr_at(500, plan.steps) == pytest.approx(at_500)
    if at_600:
        assert optim.lr_at(600, plan.steps) == pytest.approx(at_600)
    assert f"{at_500:.3g} from there (--schedule {join}" in line


def test_a_rate_that_has_fallen_to_nothing_needs_a_choice():
    recipe = COSINE.with_changes({"optim.final": 0.0})
    with pytest.raises(UserError, match=r"fell to .* \(cosine\); choose --schedule extend"):
        joined(recipe, 1, 1000, {"train.steps": 2000})
    chosen, line = joined(recipe, 1, 1000, {"train.steps": 2000, "optim.lr": 0.5})
    assert (chosen, line) == ({"train.steps": 2000, "optim.lr": 0.5}, "")


def test_one_cycle_keeps_the_betas_it_ended_with():
    recipe = COSINE.with_changes({"optim.schedule": "one-cycle", "optim.cycle_beta1": [0.85, 0.95]})
    changes, _ = joined(recipe, 1, 1000, {"train.steps": 2000}, "constant")
    before, after = recipe.plan(1), recipe.with_changes(changes).plan(1)
    ended = before.optim["denoiser"]
    for step in (1000, 1999):
        optim = after.optim["denoiser"]
        assert optim.lr_at(step, 2000) == ended.lr_at(999, 1000)
        assert optim.betas_at(step, 2000) == ended.betas_at(999, 1000)


def test_a_time_limit_ends_it_with_a_checkpoint_and_it_goes_on_to_the_same_bits(tmp_path):
    whole = made(tmp_path, "whole")
    recipe = load("digits-class", SHORT)
    run = begin(recipe, tmp_path, "run", World(), Show(), until=time.monotonic())
    assert summary(run).status == "stopped"
    reached = summary(run).step
    assert reached < 6
    assert checkpoint_files.list_steps(run.path)[-1] == reached
    resume(run, World(), Show())
    assert digest(run) == digest(whole)
    before = summary(run).step
    resume(run, World(), Show(), until=time.monotonic() + 0.1, join="constant")  # of a finished one
    assert summary(run).step > before


@pytest.mark.parametrize(
    ("text", "seconds"), [("20min", 1200), ("11h30m", 41400), ("90s", 90), ("1.5h", 5400), ("1d 2h", 93600)]
)
def test_times_in_words(text, seconds):
    assert seconds_of(text) == seconds


def test_no_time():
    with pytest.raises(UserError, match=r"--for soon: is no time; write it as"):
        seconds_of("soon")
