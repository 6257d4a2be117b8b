from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from safelight.render.trends import BLOCKS, Curve, Series, analyse, default_half_life, held_out, smooth, trend
from safelight.render.wording import describe, duration, number, percent, risen


def curve(values: Series | list[float], every: int = 1) -> Curve:
    numbers = np.asarray(values, float)
    return Curve("loss", np.arange(len(numbers)) * every, numbers)


def test_smoothing_is_the_weighted_mean_it_says() -> None:
    generator = np.random.default_rng(0)
    steps = np.cumsum(generator.integers(1, 40, 60))
    values = generator.normal(size=60)
    weights = 2.0 ** (-np.abs(steps[:, None] - steps[None, :]) / 25.0)
    expected = weights @ values / weights.sum(axis=1)
    np.testing.assert_allclose(smooth(steps, values, 25.0), expected, rtol=1e-12)


def test_smoothing_lags_behind_nothing() -> None:
    steps = np.arange(2001)
    line = smooth(steps, steps * 0.5, 10.0)
    np.testing.assert_allclose(line[500:1500], steps[500:1500] * 0.5, atol=1e-9)
    np.testing.assert_allclose(smooth(steps, np.full(2001, 7.0), 10.0), 7.0)


def test_half_life_is_a_two_hundredth_of_the_span() -> None:
    assert default_half_life(np.arange(0, 10001, 16)) == 50
    assert default_half_life(np.arange(5)) == 1
    assert default_half_life(np.arange(0)) == 1


def test_trend_compares_the_last_tenth_with_the_one_before() -> None:
    values = np.concatenate([np.full(800, 9.0), np.full(100, 4.0), np.full(100, 3.0)])
    result = trend(values)
    assert (result.verdict, result.before, result.last) == ("falling", 4.0, 3.0)
    assert (result.change, result.relative, result.error) == (-1.0, -0.25, 0.0)
    assert trend(-values).verdict == "rising"


def test_standard_error_is_that_of_batch_means() -> None:
    values = np.random.default_rng(1).normal(size=1600)
    blocks = values[-320:].reshape(2, BLOCKS, 20).mean(axis=2)
    expected = math.sqrt((blocks.var(axis=1, ddof=1) / BLOCKS).sum())
    assert trend(values).error == pytest.approx(expected, rel=1e-12)


def test_noise_is_seldom_called_a_trend_and_a_fall_in_noise_is() -> None:
    generator = np.random.default_rng(2)
    called = [trend(5 + generator.normal(size=1000)).verdict != "flat" for _ in range(400)]
    assert sum(called) <= 20  # 2.5 % expected: 10
    falling = [trend(5 - np.arange(1000) / 100 + generator.normal(size=1000)).verdict for _ in range(50)]
    assert falling.count("falling") == 50  # the change is one standard deviation, its error a seventh


def test_a_change_below_a_thousandth_is_flat_however_certain() -> None:
    assert trend(np.linspace(1, 0.998, 1000)).verdict == "flat"
    assert trend(np.linspace(1, 0.9, 1000)).verdict == "falling"


def test_few_values_tell_no_trend() -> None:
    assert trend(np.arange(79.0)).verdict == "unknown"
    assert trend(np.arange(80.0)).verdict == "rising"


def test_numbers_of_a_component_equal_those_worked_out_by_hand() -> None:
    result = analyse(curve([8.0, math.nan, 2.0, math.inf, 4.0], every=10))
    assert (result.first, result.last, result.smallest, result.smallest_step) == (8.0, 4.0, 2.0, 20)
    assert result.not_finite.tolist() == [10, 30]
    assert result.half_life == 1
    # weights of the neighbours at distance 20 and 40 steps: 2^-20 and 2^-40
    near, far = 2.0**-20, 2.0**-40
    assert result.smoothed_last == pytest.approx((4 + 2 * near + 8 * far) / (1 + near + far), rel=1e-14)
    assert result.smoothed_smallest == pytest.approx((2 + 12 * near) / (1 + 2 * near), rel=1e-14)
    assert describe(result) == (
        "Only 5 recorded steps: too few for a trend. Not finite at 2 steps, first at step 10."
    )


def test_nothing_finite_and_nothing_recorded_are_said() -> None:
    assert describe(analyse(curve([math.nan] * 3))) == "No finite value in 3 recorded steps."
    assert describe(analyse(curve([]))) == "Never recorded."


def test_the_sentence_states_the_computed_change() -> None:
    values = np.concatenate([np.full(800, 9.0), np.full(100, 4.0), np.full(100, 3.0)])
    told_words = describe(analyse(curve(values))).replace("\u00a0", " ")
    assert (
        told_words
        == "Still falling at the end: its mean went from 4 to 3 over the last 10 % (−25 % ± 0.00 %)."
    )
    around_zero = np.tile([-1.0, 1.0], 500)  # block means are +-1/13 four times and 0 four times
    assert describe(analyse(curve(around_zero))).endswith("over the last 10\u00a0% (0 ± 0.02907).")
    assert describe(analyse(curve(np.ones(1000)))).startswith("Flat within its noise: its mean was 1, then 1")


def test_a_held_out_value_that_has_risen_from_its_minimum_is_told() -> None:
    result = held_out(Curve("h", np.array([0, 100, 200, 300]), np.array([2.0, 1.0, math.nan, 1.1])))
    assert (result.first, result.best, result.best_step, result.last) == (2.0, 1.0, 100, 1.1)
    assert result.regression == pytest.approx(0.1)
    assert risen(result).replace("\u00a0", " ") == "At the end 10 % above its minimum at step 100."
    assert risen(held_out(curve([2.0, 1.0, 1.01]))) == ""
    assert risen(held_out(curve([math.nan]))) == "No finite value."


def test_a_held_out_value_is_judged_by_its_own_direction() -> None:
    """A cosine that falls is a loss; the KL of a posterior is neither better high nor low."""
    values = replace(curve([1.0, 2.0, 1.0]), better="more")
    assert risen(held_out(values)).replace("\u00a0", " ") == "At the end 50 % below its maximum at step 1."
    assert risen(held_out(replace(values, better="less"))) == ""
    neither = held_out(replace(curve([0.1, 0.0, 9.0]), better=""))
    assert (neither.first, neither.best_step, neither.last, risen(neither)) == (0.1, -1, 9.0, "")


def test_curves_that_do_not_ascend_or_match_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        Curve("loss", np.array([1, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="3,"):
        Curve("loss", np.arange(3), np.zeros(2))


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (0.041234, 12345.6, -1.25, 3.1e-5, math.inf, math.nan, None)] == [
        "0.04123", "12,346", "−1.25", "3.1e-05", "∞", "–", "–",
    ]  # fmt: skip
    assert [percent(v).replace("\u00a0", " ") for v in (-0.031, 0.12, 0.0004)] == [
        "−3.1 %",
        "+12 %",
        "+0.04 %",
    ]
    assert [duration(s) for s in (4.25, 42, 725, 3600 * 3 + 720, 86400 * 2 + 3600 * 3)] == [
        "4.2 s", "42 s", "12 min 5 s", "3 h 12 min", "2 d 3 h",
    ]  # fmt: skip
