"""Forks beside their runs: the variance of pairs, by its formula, and maps of differences."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.render.page import Drawing, ReportTable
from safelight.report.comparison import compare
from safelight.report.comparison_page import page_of
from safelight.report.facts import gather
from safelight.report.pairs import PairedNumber, difference_map
from safelight.store.info import Parent


def test_the_quotient_of_variances_is_one_minus_the_correlation():
    """Of equal variances Var(f) + Var(r) over Var(f - r) is 1 / (1 - rho)."""
    rng = np.random.default_rng(0)
    r = rng.normal(size=200_000)
    f = 1.0 + 0.95 * r + np.sqrt(1 - 0.95**2) * rng.normal(size=len(r))
    paired = PairedNumber.of("x", r, f)
    assert paired.times == pytest.approx(1 / (1 - 0.95), rel=0.02)
    assert paired.independent == pytest.approx(np.sqrt(2), rel=0.01)
    assert np.mean(paired.differences) == pytest.approx(1.0, abs=0.01)
    assert np.isnan(PairedNumber.of("x", [1.0], [2.0]).times)


def test_maps_are_black_where_equal_and_white_where_they_differ_most():
    a = np.zeros((1, 2, 2, 1), np.uint8)
    b = a.copy()
    b[0, 0] = [[51], [102]]
    assert difference_map(a, b).ravel().tolist() == difference_map(b, a).ravel().tolist() == [128, 255, 0, 0]
    assert not difference_map(a, a).any()


def test_forks_of_two_seeds_are_paired_and_grouped_by_what_was_changed(made):
    facts = []
    for seed, loss in ((0, 1.0), (1, 3.0)):
        run = made(f"s{seed}", {"train.seed": seed}, losses=lambda step, loss=loss: loss, drawn=seed)
        fork = made(
            f"f{seed}",
            {"train.seed": seed, "data.without": ["label=left"]},
            losses=lambda step, loss=loss: loss + 0.5,
            parent=Parent(run.info().id, 0, "x"),
            drawn=seed + 5,
        )
        facts += [gather(run), gather(fork)]
    comparison = compare(facts)
    (group,) = comparison.pairs
    assert group.pairs == (("s0", "f0"), ("s1", "f1"))
    assert (group.change, group.step) == ("data.without = [label=left]", 0)
    (loss,) = [each for each in group.numbers if each.name == "loss mse"]
    assert loss.differences == (0.5, 0.5)
    assert loss.deviation == 0
    assert loss.independent == pytest.approx(np.sqrt(2 + 2))
    assert [each.runs for each in comparison.replicas] == [("s0", "s1"), ("f0", "f1")]
    (section,) = [section for section in page_of(comparison).sections if section.title == "Pairs"]
    assert sum(isinstance(block, Drawing) for block in section.blocks) == 1
    (table,) = [block for block in section.blocks if isinstance(block, ReportTable)]
    assert table.head == ("number", "fork - run", "±", "independent ±", "times")
