"""The rule of the seed band: parity with SciPy's t-test, its level, and what it may not claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from safelight.report.basis import Number, NumberColumn, NumberRow
from safelight.report.seeds import LEVEL, Spread, band, contrast, judge, judge_column
from safelight.report.settings import Replicas


def spread(label: str, *values: float) -> Spread:
    return Spread(label, tuple(f"{label}{i}" for i in range(len(values))), values)


def group(label: str, *runs: str) -> Replicas:
    return Replicas(label, runs, {})


@pytest.mark.parametrize("comparisons", [1, 3])
@pytest.mark.parametrize(("many", "few"), [(2, 2), (3, 3), (5, 2), (8, 8)])
def test_the_verdict_is_that_of_a_t_test(many, few, comparisons):
    rng = np.random.default_rng(many * 10 + few)
    verdicts = set()
    for shift in np.linspace(0, 8, 25):
        a, b = spread("a", *rng.normal(shift, 1, many)), spread("b", *rng.normal(0, 1, few))
        test = stats.ttest_ind(a.values, b.values)
        difference = contrast(a, b, comparisons)
        told_apart = test.pvalue < LEVEL / comparisons
        assert (difference.verdict != "within the seed spread") == told_apart
        if told_apart:
            assert difference.verdict == ("higher" if test.statistic > 0 else "lower")
        interval = test.confidence_interval(1 - LEVEL / comparisons)
        assert difference.band == pytest.approx((interval.high - interval.low) / 2)
        assert difference.difference == pytest.approx(a.mean - b.mean)
        verdicts.add(difference.verdict)
    assert len(verdicts) == 2  # both kinds were met


def test_two_seeds_in_closed_form():
    # Each pair lies 0.2 apart: variance 0.02, pooled 0.02, t(0.975, 2) = 4.3027.
    assert band(spread("a", 1.0, 1.2), spread("b", 2.0, 2.2)) == pytest.approx(
        4.30265 * math.sqrt(0.02), rel=1e-5
    )
    assert band(spread("a", 1.0, 1.0), spread("b", 2.0, 2.0)) == 0.0
    assert contrast(spread("a", 1.0, 1.0), spread("b", 2.0, 2.0)).verdict == "lower"
    assert contrast(spread("a", 1.0, 1.0), spread("b", 1.0, 1.0)).verdict == "within the seed spread"


def test_verdicts_on_equal_settings_are_wrong_in_five_percent_of_numbers():
    rng = np.random.default_rng(0)
    groups = [group(label, *(f"{label}{i}" for i in range(3))) for label in "abcd"]
    wrong, trials = 0, 1500
    for _ in range(trials):
        values = {run: float(rng.normal()) for item in groups for run in item.runs}
        judgement = judge("mse", groups, values)
        wrong += any(item.verdict in ("lower", "higher") for item in judgement.contrasts)
    assert 0.025 < wrong / trials < 0.065  # Bonferroni: at most 5 %, and not far below for three verdicts


@pytest.mark.parametrize(("seeds", "share"), [(2, 0.15), (3, 0.11), (5, 0.08)])
def test_the_worst_level_is_as_documented(seeds, share):
    # One setting without any spread: the pooled statistic is then t-distributed with n - 1 degrees.
    worst = 2 * stats.t.sf(stats.t.ppf(0.975, 2 * seeds - 2), seeds - 1)
    assert worst == pytest.approx(share, abs=0.006)


def test_one_seed_claims_nothing():
    difference = contrast(spread("a", 1.0), spread("b", 5.0, 5.1))
    assert difference.verdict == "one seed: spread unknown"
    assert math.isnan(difference.band)
    assert difference.difference == pytest.approx(-4.05)


def test_a_setting_that_diverges_leaves_the_other_verdicts_as_they_were():
    groups = [group("a", "a0", "a1"), group("b", "b0", "b1"), group("c", "c0", "c1")]
    values = {"a0": 1.0, "a1": 1.02, "b0": 0.5, "b1": 0.51, "c0": 3e18, "c1": 7.0}
    contrasts = {item.label: item for item in judge("mse", groups, values).contrasts}
    alone = {item.label: item for item in judge("mse", groups, {**values, "c0": 6.9}).contrasts}
    assert contrasts["b"] == alone["b"]
    assert contrasts["b"].verdict == "lower"
    assert contrasts["c"].verdict == "within the seed spread"  # so wide is its spread


def test_seeds_that_failed_are_named_and_left_out():
    groups = [group("a", "a0", "a1", "a2"), group("b", "b0", "b1")]
    judgement = judge("mse", groups, {"a0": 1.0, "a1": math.nan, "a2": 1.1, "b0": 2.0, "b1": 2.1})
    assert judgement.spreads[0].runs == ("a0", "a2")
    assert judgement.spreads[0].lost == ("a1",)
    assert judgement.contrasts[0].verdict == "higher"


def test_the_reference_is_the_first_setting_with_a_spread():
    groups = [group("a", "a0"), group("b", "b0", "b1"), group("c", "c0", "c1"), group("d", "d0")]
    values = {"a0": 1.0, "b0": 2.0, "b1": 2.1, "c0": 9.0, "c1": 9.1}
    judgement = judge("mse", groups, values)
    assert judgement.spreads[0].label == "b"
    assert {item.label: item.verdict for item in judgement.contrasts} == {
        "a": "one seed: spread unknown",
        "c": "higher",
        "d": "no number",
    }
    assert judge("mse", groups, {}).contrasts == ()


def test_only_runs_of_one_column_are_judged_together():
    rows = [
        NumberRow(run, {}, {"mse": Number(value)}) for run, value in (("a0", 1.0), ("a1", 1.1), ("b0", 2.0))
    ]
    groups = [group("a", "a0", "a1"), group("b", "b0", "b1"), group("elsewhere", "x", "y")]
    (judgement,) = judge_column(NumberColumn({}, tuple(rows)), groups)
    assert [item.label for item in judgement.spreads] == ["a", "b"]
    assert judgement.spreads[1].lost == ("b1",)
