"""VAEs of different weights: which is the better model, and why, by numbers free of the weights."""

from __future__ import annotations

import math

import numpy as np

from compare_runs import DATA, Made
from safelight.functional import elbo
from safelight.render.page import Drawing, Notes, Text
from safelight.render.sheet import sheet
from safelight.render.sheet_file import save_png
from safelight.report.comparison import compare
from safelight.report.comparison_page import page_of
from safelight.report.log import log
from safelight.report.log_page import log_page
from safelight.report.vae import Bounds, reconstructions

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)


def vae(made: Made, name: str, weight: float, mse: float, nats: float, units: float, **keys):
    """A run of w mse + KL on images of 16 values, measured at its last step."""
    measured = {
        "seen/sigma": elbo.implied_sigma(weight, 16),
        "held_out/mse": mse,
        "held_out/kl": nats,
        "held_out/active units": units,
        "held_out/bpd*": float(elbo.bits_per_value(mse, nats, 16)),
    }
    changes = {"loss.weights.mse": weight, "loss.weights.kl": 1.0, "method.name": "vae"}
    return made.read(
        name,
        changes,
        losses=lambda step: mse,
        more=lambda step: {"kl": nats},
        extra=lambda step: measured if step == 99 else {},
        **keys,
    )


def test_the_smaller_total_can_be_the_worse_model(made):
    """Weights 1 and 500: .0449 against 18.4 says nothing, bpd* does."""
    collapsed, learned = vae(made, "m1", 1.0, 0.0449, 0.0, 0.0), vae(made, "m2", 500.0, 0.0100, 6.0, 4.0)
    comparison = compare([collapsed, learned])
    assert len(comparison.at[0].total.columns) == 2
    (verdict,) = comparison.at[0].bounds.verdicts
    assert verdict.runs == ("m2", "m1")
    better, collapse, totals = verdict.words
    assert better.startswith("m2 is a better model than m1: bpd* ")
    assert "4 active units against 0: it leaves 22% of the error for 6 nats more of KL." in better
    assert collapse.startswith("m1 has a collapsed posterior")
    assert totals == (
        "Their totals are not comparable: they put different weights on the error "
        f"(m1 1, σ = {8**0.5:.4g}; m2 500, σ = {(8 / 500) ** 0.5:.4g})."
    )


def test_a_kl_too_dear_loses_against_a_larger_error(made):
    """The rate counts: at 16 values a nat is .09 bits a value."""
    lean, dear = vae(made, "lean", 500.0, 0.0106, 2.0, 4.0), vae(made, "dear", 5000.0, 0.0099, 12.0, 9.0)
    (verdict,) = compare([lean, dear]).at[0].bounds.verdicts
    assert verdict.runs == ("lean", "dear")
    assert "it pays 10 nats less of KL, which outweighs its larger error." in verdict.words[0]


def test_what_is_nearer_than_it_can_be_measured_decides_nothing(made):
    first, other = vae(made, "a", 500.0, 0.0100, 6.0, 4.0), vae(made, "b", 500.0, 0.01001, 6.0, 4.0)
    (verdict,) = compare([first, other]).at[0].bounds.verdicts
    assert len(verdict.words) == 1
    assert "equally good" in verdict.words[0]


def test_a_calibrated_run_stands_beside_a_weighted_one(made):
    """The numbers are of the same bound whatever σ the method was told."""
    weighted = vae(made, "a", 500.0, 0.0100, 6.0, 4.0)
    other = made.read(
        "b",
        {"method.name": "vae", "method.sigma": "calibrated", "loss.weights.nll": 1.0},
        extra=lambda step: {"held_out/mse": 0.009, "held_out/kl": 7.0, "held_out/active units": 5.0,
                            "held_out/bpd*": -1.0, "seen/sigma": 0.1} if step == 99 else {},
    )  # fmt: skip
    assert len(compare([weighted, other]).at[0].bounds.table.columns) == 1
    apart = vae(made, "c", 500.0, 0.01, 6.0, 4.0, data={**DATA, "fingerprint": "other"})
    assert len(compare([weighted, apart]).at[0].bounds.table.columns) == 2


def test_reconstructions_are_shown_where_the_images_are_the_same(made):
    runs = [vae(made, "m1", 1.0, 0.04, 0.0, 0.0), vae(made, "m2", 500.0, 0.01, 6.0, 4.0)]
    for place, run in enumerate(runs):
        (run.path / "panels").mkdir()
        pair = np.concatenate([PIXELS, PIXELS // (place + 2)])
        save_png(sheet(pair, 3), run.path / "panels" / "00000100-reconstructions.png")
    rows = reconstructions(runs)
    assert [name for name, _ in rows] == ["image", "m1", "m2"]
    assert np.array_equal(rows[2][1], PIXELS // 3)
    titles = [section.title for section in page_of(compare(runs)).sections]
    learned = page_of(compare(runs)).sections[titles.index("What was learned")]
    assert any(isinstance(block, Drawing) for block in learned.blocks)
    assert any(isinstance(block, Notes) for block in learned.blocks)
    at = compare(runs).to_dict()["at"][0]["bound"]
    assert at["verdicts"][0]["runs"] == ["m2", "m1"]


def test_runs_of_other_families_have_no_bound(made):
    assert compare([made.read("a"), made.read("b")]).at[0].bounds == Bounds()


def test_the_log_goes_from_recipe_to_recipe_of_one_experiment(made):
    """faces-1, faces-2: each is told against the one before it, with its epochs and held-out numbers."""
    earlier = vae(made, "m1", 1.0, 0.0449, 0.0, 0.0, recipe="faces-1")
    two = vae(made, "m2", 500.0, 0.0100, 6.0, 4.0, recipe="faces-2")
    newest, oldest = log([earlier, two])
    assert newest.before is not None
    assert newest.before.name == "m1"
    values = {value.name: value for value in newest.values}
    assert next(iter(values)) == "held-out bpd*"
    assert math.isclose(values["held-out mse"].before.value, 0.0449)
    page = log_page([newest, oldest], "here", 9)
    words = [block.words for section in page.sections for block in section.blocks if isinstance(block, Text)]
    assert any("(2 epochs)" in text for text in words)
    assert any("Against m1, of faces-1, the run before it of this data, changed:" in text for text in words)
