"""The three models of an experiment log, small: a collapse that was predicted, and what numbers tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.data import open_data
from safelight.engine.distributed import World
from safelight.functional import elbo
from safelight.recipe import load
from safelight.report.comparison import compare
from safelight.report.facts import gather
from safelight.report.log import log
from safelight.training.progress import Show
from safelight.training.start import begin

SMALL = {
    "data.size": 32,
    "network.encoder.widths": [16, 24, 32],
    "network.decoder.widths": [32, 24, 16],
    "network.encoder.dropout": 0.0,
    "optim.lr": 2e-3,
    "optim.schedule": "constant",
    "train.steps": 400,
    "train.ema": 0.9,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "watch.every": 400,
    "checkpoint.every": 400,
}
VALUES = 3 * 32 * 32


@pytest.mark.slow
def test_the_three_runs_of_the_log(tmp_path):
    """faces-1 collapses, as its σ foretells; faces-2 and faces-3 are better, for all their larger totals."""
    runs = {}
    for number, latent in ((1, 12), (2, 12), (3, 28)):
        recipe = load(f"faces-{number}", {**SMALL, "network.encoder.latent": latent})
        runs[number] = gather(begin(recipe, tmp_path, f"m{number}", World(), Show()))
    pack = open_data(recipe.data)
    items = pack.train[:1000]
    images = torch.from_numpy(np.asarray(pack.images[items])).flatten(1) / 255
    eigenvalues = elbo.covariance_eigenvalues(images, torch.from_numpy(pack.given["attributes"][items]))
    predicted = {w: elbo.predicted_active(eigenvalues, elbo.implied_sigma(w, VALUES)) for w in (1.0, 500.0)}
    assert predicted[1.0] == 0 < predicted[500.0]
    comparison = compare(list(runs.values()))
    (column,) = comparison.at[0].bounds.table.columns
    numbers = {
        row.run: {name: measured.value for name, measured in row.numbers.items()} for row in column.rows
    }
    assert numbers["m1"]["active units"] == 0
    assert numbers["m1"]["kl"] < 0.1
    assert numbers["m2"]["active units"] >= 1
    assert numbers["m2"]["bpd*"] < numbers["m1"]["bpd*"] - 0.05
    assert len(comparison.at[0].total.columns) == 2  # the totals of weights 1 and 500 stand apart
    (verdict,) = comparison.at[0].bounds.verdicts
    assert verdict.runs[-1] == "m1"
    assert any("m1 has a collapsed posterior" in words for words in verdict.words)
    entries = log(list(runs.values()))
    assert [entry.run.name for entry in entries] == ["m3", "m2", "m1"]
    changes = [{change.key for change in entry.changes if change.role == "training"} for entry in entries]
    assert changes[0] == {"network.encoder.latent"}
    assert changes[1] == {"loss.weights.mse"}
