"""Verdicts of a session: journalled once, in the metrics, in the report, with a checkpoint to go back to."""

from __future__ import annotations

import math

import pytest

from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.report.history import history_of
from safelight.report.run_report import read_run
from safelight.store import checkpoint_files, metrics
from safelight.store.journal import holding
from safelight.training.progress import Show
from safelight.training.start import begin

RUNAWAY = {
    "data.source": "digits",
    "data.size": 8,
    "network.generator.latent": 4,
    "network.generator.widths": [8, 8],
    "network.discriminator.widths": [16, 16],
    "method.penalty_every": 1,
    "loss.weights.r1": 0.0,
    "loss.weights.r2": 0.0,
    "optim.generator.lr": 1e-6,
    "optim.discriminator.lr": 3e-3,
    "optim.discriminator.warmup": 20,
    "train.steps": 120,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "watch.every": 30,
    "watch.images": 20,
    "watch.held_out": 32,
    "checkpoint.every": 10,
    "checkpoint.keep": 1,
}


@pytest.fixture(scope="module")
def runaway(tmp_path_factory):
    warned: list[str] = []
    runs = tmp_path_factory.mktemp("runs")
    return begin(load("fashion-gan", RUNAWAY), runs, "city", World(), Show(warn=warned.append)), warned


def test_a_verdict_is_journalled_once_told_and_measured(runaway):
    directory, warned = runaway
    begun = [entry.fields for entry in directory.journal().of_kind("verdict") if entry.fields["begins"]]
    wins = [verdict for verdict in begun if verdict["name"] == "discriminator wins"]
    assert len(wins) == 1
    assert "discriminator accuracy" in wins[0]["measured"]
    assert sum("discriminator wins" in line for line in warned) == 1
    assert "discriminator wins" in holding(directory.journal())
    rows = metrics.rows(directory.path)
    assert ["verdict/discriminator wins" in row.extra for row in rows] == [
        row.step + 1 >= wins[0]["step"] for row in rows
    ]


def test_the_checkpoint_before_the_trouble_is_pinned_although_one_is_kept(runaway):
    directory, _ = runaway
    wins = next(e.fields for e in directory.journal().of_kind("verdict") if e.fields["begins"])
    pin = checkpoint_files.read_pins(directory.path)["before-discriminator-wins"]
    assert pin.step == wins["rescue"] < wins["since"]
    assert pin.step in checkpoint_files.list_steps(directory.path)


def test_the_advice_is_a_command_that_goes_back_there(runaway):
    directory, _ = runaway
    wins = next(e.fields for e in directory.journal().of_kind("verdict") if e.fields["begins"])
    assert wins["advice"][0]["command"].startswith(f"safelight fork city --step {wins['rescue']} ")
    assert wins["advice"][0]["words"] in (directory.path / "report.md").read_text().lower()


def test_curves_show_the_span_of_a_verdict_and_where_neither_network_wins(runaway):
    directory, _ = runaway
    wins = next(e.fields for e in directory.journal().of_kind("verdict") if e.fields["begins"])
    history = history_of(*read_run(directory))
    event = next(event for event in history.events if event.label == wins["name"])
    assert (event.step, event.until) == (wins["step"], 120)  # it holds to the end
    levels = {curve.name: curve.reference for curve in history.components}
    assert levels["d"] == levels["g"] == pytest.approx(math.log(2))
