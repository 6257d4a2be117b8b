"""What a probe chooses, on a clock that tells what it is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from safelight.engine import precision
from safelight.engine.precision import Execution, autocast, candidates, choose


class Clock:
    """Time that passes only while a step runs."""

    def __init__(self, seconds: dict[Execution, float]) -> None:
        self.now, self.seconds = 0.0, seconds
        self.runs: list[Execution] = []

    def prepare(self, option: Execution):
        def step() -> None:
            self.runs.append(option)
            first = self.runs.count(option) == 1
            self.now += 60.0 if first else self.seconds[option]  # the first one compiles and allocates

        return step


def chosen(monkeypatch, seconds: dict[Execution, float], options=None):
    clock = Clock(seconds)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return choose(options or list(seconds), clock.prepare), clock


DEFAULT, FAST = Execution("fp32", "contiguous"), Execution("bf16", "channels_last")
OTHERS = [Execution("fp32", "channels_last"), Execution("bf16", "contiguous")]


def test_the_default_is_kept_below_15_percent(monkeypatch):
    (choice, _), _ = chosen(monkeypatch, {DEFAULT: 1.149, FAST: 1.0})
    assert choice == DEFAULT


def test_the_fastest_is_taken_from_15_percent_on(monkeypatch):
    (choice, _), _ = chosen(monkeypatch, {DEFAULT: 1.151, OTHERS[0]: 1.05, OTHERS[1]: 0.999, FAST: 1.0})
    assert choice == OTHERS[1]


def test_the_first_step_is_not_timed_and_the_others_are_interleaved(monkeypatch):
    (_, medians), clock = chosen(monkeypatch, {DEFAULT: 0.2, FAST: 0.1})
    assert medians == pytest.approx({"fp32 contiguous": 0.2, "bf16 channels_last": 0.1})
    assert clock.runs == [DEFAULT, FAST] * 4


def test_one_slow_moment_of_the_machine_decides_nothing(monkeypatch):
    clock = Clock({DEFAULT: 1.0, FAST: 1.0})
    usual = clock.prepare

    def prepare(option: Execution):
        step = usual(option)

        def disturbed() -> None:
            step()
            if len(clock.runs) == 3:
                clock.now += 9.0

        return disturbed

    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    assert choose([DEFAULT, FAST], prepare)[0] == DEFAULT


@pytest.mark.parametrize(
    ("stated", "options"),
    [
        (("auto", "auto"), [DEFAULT, *OTHERS, FAST]),
        (("bf16", "auto"), [OTHERS[1], FAST]),
        (("auto", "channels_last"), [OTHERS[0], FAST]),
        (("bf16", "contiguous"), [OTHERS[1]]),
        (("fp32", "channels_last"), [OTHERS[0]]),
    ],
)
def test_what_is_stated_is_not_up_for_choice(stated, options):
    assert candidates(*stated) == options


def test_a_single_option_is_not_run():
    def prepare(option: Execution):
        raise AssertionError("nothing to choose")

    assert choose([FAST], prepare) == (FAST, {})


@pytest.mark.parametrize(("name", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_asked_for(name, kind):
    with autocast(torch.device("cpu"), name)():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind
