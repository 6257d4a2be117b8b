"""Copies and their rate: intervals by SciPy, a planted copy, and what held-out images say."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from scipy import stats

from command_line import run
from safelight.checks.images import _copies
from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate.originals import Nearest, Rate, nearness
from safelight.explore.originals import _at_risk
from safelight.loading.recorded import data_of, recipe_of
from safelight.report.copies import copies_blocks
from safelight.report.facts import gather
from safelight.store.directory import RunDirectory


@pytest.mark.parametrize(("k", "n"), [(0, 40), (1, 40), (20, 40), (40, 40)])
def test_the_interval_is_clopper_and_pearsons(k, n):
    rate, exact = Rate.of(k, n), stats.binomtest(k, n).proportion_ci(method="exact")
    assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high))
    assert rate.share == k / n


def test_nearness_is_the_distance_in_units_of_that_to_the_surroundings():
    training = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    x = training[[5, 7]] + torch.tensor([[1e-3], [2.0]])
    distances = torch.cdist(x.double(), training.double())
    sorted_ = distances.sort(1)
    ratios, places = nearness(x, training)
    expected = sorted_.values[:, 0] / sorted_.values[:, 1:51].mean(1)
    torch.testing.assert_close(ratios.double(), expected, rtol=1e-2, atol=2e-3)
    assert places.tolist() == sorted_.indices[:, 0].tolist()


def test_fresh_samples_are_as_near_as_held_out_ones_and_copies_are_flagged():
    generator = torch.Generator().manual_seed(1)
    training, held_out, fresh = (torch.randn(n, 24, generator=generator) for n in (500, 400, 400))
    space = Nearest.of(fresh, training, held_out)
    assert space.copies.count == space.held_out_copies.count == 0
    low, high = space.chance
    assert low <= space.nearer.share <= high
    copied = Nearest.of(torch.cat([training[:40] + 1e-2, fresh[:360]]), training, held_out)
    assert copied.copies.count == 40
    assert copied.nearer.share > high
    assert copied.flagged.nonzero().flatten().tolist()[:40] == list(range(40))
    assert copied.places[:40].tolist() == list(range(40))


def test_chance_is_as_often_as_it_says():
    """Samples and held-out images of one distribution: outside in 5 % of cases, at most."""
    rng, outside = np.random.default_rng(0), 0
    for _ in range(400):
        ratios, held_out = (torch.from_numpy(rng.random(size)) for size in (60, 99))
        space = Nearest(ratios, ratios, held_out)
        low, high = space.chance
        outside += not low <= space.nearer.share <= high
    assert outside <= stats.binom(400, 0.05).ppf(0.999)
    assert space.chance == tuple(share / 60 for share in stats.betabinom(60, 5, 95).interval(0.95))


def test_the_command_lists_what_it_found_and_the_report_has_it(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished.path, tmp_path / "whole")
    words = ["originals", "whole", "--n", "12", "--features", "none", "--runs", str(tmp_path)]
    code, out, err = run(monkeypatch, capsys, *words, "--out", str(tmp_path / "sheet.png"), "--json")
    assert code == 0, err
    found = json.loads(out)
    rate = found["spaces"]["pixels"]["copies"]
    assert (rate["n"], len(found["nearest"])) == (12, 12)
    assert (tmp_path / "sheet.png").is_file()
    names = set(data_of(finished, recipe_of(finished)).names)
    assert {each["pixels"]["item"] for each in found["nearest"]} <= names
    copied = RunDirectory(tmp_path / "whole")
    (table,) = [block for block in copies_blocks(gather(copied)) if hasattr(block, "head")]
    assert table.rows[0][0] == "pixels"
    assert "Copies" in (copied.path / "report.md").read_text()
    assert not any("evaluations/originals" in problem for problem in gather(copied).problems)


def test_the_check_names_the_image_that_is_there_most_often(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 8, 8, 1), np.uint8)
    images[[5, 9]] = images[2]
    images[11] = images[3]
    np.savez(tmp_path / "a.npz", x_train=images, x_test=rng.integers(0, 255, (4, 8, 8, 1), np.uint8))
    pack = open_data(Data(path=str(tmp_path / "a.npz")))
    (finding,) = [each for each in _copies(pack) if each.code == "images-copied"]
    assert finding.measured == "3 of 20 training images are copies of others; train/02 is there 3 times"


def test_images_at_risk_are_those_that_flagged_samples_are_nearest_to(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1), np.uint8)
    images[9] = images[4]
    np.savez(tmp_path / "a.npz", x_train=images, x_test=255 - images[:4])
    pack = open_data(Data(path=str(tmp_path / "a.npz")))
    ratios, places = torch.tensor([0.2, 0.9, 0.1, 0.5]), torch.tensor([4, 5, 4, 7])
    spaces = {
        "pixels": Nearest(ratios, places, torch.tensor([0.6, 0.8])),
        "classifier": Nearest(torch.ones(4), places + 1, torch.tensor([0.6, 0.8])),
    }
    four, seven = _at_risk(spaces, pack.train, pack, "")
    assert (four.name, four.samples, four.space, four.copies) == ("train/04", (0, 2), "pixels", 2)
    assert four.ratio == pytest.approx(0.1)
    assert (seven.name, seven.samples, seven.copies) == ("train/07", (3,), 1)  # nearer than any held-out one
