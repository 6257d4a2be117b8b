"""A run is ended by its rules, at the same step however often it stops, or fails and names a way back."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.loop import Signals, interrupts
from safelight.recipe import load
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.listing import summary
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

SHORT = TINY | {"watch.every": 2, "watch.images": 2, "checkpoint.every": 3, "train.steps": 12}


def made(runs: Path, changes: dict[str, object], show: Show | None = None) -> RunDirectory:
    return begin(load("digits-class", SHORT | changes), runs, "run", World(), show or Show())


def test_non_finite_steps_end_it_as_failed_and_name_the_last_good_checkpoint(tmp_path):
    keys = {"optim.lr": 1e6, "optim.warmup": 0, "optim.clip": 0, "optim.schedule": "constant"}
    with pytest.raises(UserError, match=r"run: no step of \d+ to \d+ had a finite gradient.*"):
        made(tmp_path, keys | {"train.steps": 60, "watch.every": 100, "stop.non_finite": 5})
    run = RunDirectory(tmp_path / "run")
    short = summary(run)
    assert short.status == "failed"
    assert short.step < 60
    message = run.journal().of_kind("end")[-1].fields["message"]
    norms = metrics.read(run.path)["grad_norm/denoiser"]
    first = next(step for step, norm in enumerate(norms) if not math.isfinite(norm))
    good = [step for step in checkpoint_files.list_steps(run.path) if step <= first]
    assert f"last good checkpoint is of step {good[-1]}" in message if good else "lower optim.lr" in message


def test_a_goal_ends_it_at_its_measurement_and_a_change_of_the_rule_goes_on(tmp_path):
    lines: list[str] = []
    run = made(tmp_path, {"stop.goal": "held_out/mean <= 1e9"}, Show(tell=lines.append))
    assert (summary(run).status, summary(run).step) == ("finished", 2)
    assert checkpoint_files.list_steps(run.path)[-1] == 2
    assert any(line.startswith("finished after step 2: stop.goal: held_out/mean is ") for line in lines)
    resume(run, World(), Show(tell=lines.append))
    assert any("run is finished: 2 steps, stop.goal" in line for line in lines)
    resume(run, World(), Show(), {"stop.goal": "", "stop.images": 60})
    assert (summary(run).status, summary(run).step) == ("finished", 5)


def test_patience_ends_at_the_same_step_after_a_stop_on_the_way(tmp_path):
    """A rate of 0 measures the same again and again."""
    rules = {"optim.lr": 0.0, "stop.patience": 3, "stop.metric": "held_out/mean"}

    def rows(seen) -> None:
        if not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)

    sent: list[bool] = []
    run = made(tmp_path / "stopped", rules, Show(rows=rows))
    assert (summary(run).status, summary(run).step < 8) == ("stopped", True)
    resume(run, World(), Show())
    whole = summary(made(tmp_path, rules))
    assert (summary(run).status, summary(run).step) == (whole.status, whole.step) == ("finished", 10)


def test_hours_finish_it(tmp_path):
    run = made(tmp_path, {"stop.hours": 1e-9})
    assert (summary(run).status, summary(run).step) == ("finished", 2)
    assert run.journal().of_kind("end")[-1].fields["message"].startswith("stop.hours")


def test_a_rule_on_what_is_never_measured_is_refused():
    with pytest.raises(UserError, match=r"evaluate/ is not measured; set evaluate.every"):
        load("digits", {"stop.goal": "evaluate/FD-classifier <= 3"})


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_a_hang_up_asks_for_a_stop_unless_nohup_had_it_ignored():
    signals = Signals()
    with interrupts(signals, alone=True):
        os.kill(os.getpid(), signal.SIGHUP)
    assert signals.stop
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from safelight.engine.loop import Signals, interrupts\n"
        "signals = Signals()\n"
        "with interrupts(signals, True): os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(signals.stop)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
