"""Forecasts of where a course ends: exact where the law is known, honest about what is not."""

from __future__ import annotations

import math

import numpy as np

from safelight.monitor.forecast import LEAST, Known, forecast

STEPS = 1000
ALL = range(25, STEPS + 1, 25)


def course(rate: float, floor: float, upto: int = STEPS, noise: float = 0.0, seed: int = 0):
    draw = np.random.default_rng(seed)
    return [
        (step, (floor + 2 * step ** -(0.3 + rate)) * math.exp(noise * draw.normal()))
        for step in ALL if step <= upto
    ]  # fmt: skip


def known(number: int, noise: float = 0.0, upto: int = STEPS) -> Known:
    """Of a law that its one setting decides."""
    setting = (number * 0.618034) % 1
    return Known(course(0.4 * setting, 0.1, upto, noise, number), STEPS, {"lr": setting})


def test_with_a_history_the_first_tenth_is_enough():
    history = [known(number) for number in range(30)]
    errors = []
    for number in range(30, 50):
        made = forecast(known(number, upto=100), history)
        assert made.runs == 30
        errors.append(abs(made.value / known(number).course[-1][1] - 1))
    assert max(errors) < 0.02


def test_four_of_five_intervals_hold_what_comes():
    history = [known(number, 0.01) for number in range(40)]
    held = []
    for number in range(40, 140):
        made = forecast(known(number, 0.01, upto=100), history)
        held.append(made.low <= known(number, 0.01).course[-1][1] <= made.high)
    assert 70 <= sum(held) <= 92  # a binomial of 0.8, two and a half deviations


def test_few_runs_are_no_history_and_others_are_left_out():
    history = [known(number) for number in range(LEAST - 1)]
    assert forecast(known(50, upto=100), history) is None
    broken = [Known([(25, 1.0), (50, math.nan), (1000, 1.0)], STEPS), Known(course(0.1, 0.1, 500), STEPS)]
    assert forecast(known(50, upto=100), [*history, *broken]) is None
    assert forecast(Known((), STEPS, {"lr": 0.5}), history) is None


def test_before_training_the_settings_speak():
    history = [known(number) for number in range(30)]
    made = forecast(Known((), STEPS, {"lr": 0.5}), history)
    assert made.low < course(0.2, 0.1)[-1][1] < made.high


def test_one_measurement_or_a_course_that_ended_is_not_forecast():
    history = [known(number) for number in range(20)]
    assert forecast(Known([(100, 1.0)], STEPS), history) is None
    assert forecast(Known(course(0.1, 0.1), STEPS), history) is None


def test_values_below_zero_are_forecast_from_history_alone():
    shifted = [
        Known([(step, value - 1) for step, value in known(number).course], STEPS, known(number).settings)
        for number in range(20)
    ]
    early = Known([(step, value - 1) for step, value in known(30, upto=100).course], STEPS, {"lr": 0.5})
    assert forecast(early, shifted).runs == 20
