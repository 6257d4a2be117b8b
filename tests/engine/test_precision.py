"""What a probe chooses, on a clock that tells what it is told."""

from __future__ import annotations

import pytest
import torch

from safelight.engine.precision import Execution, autocast, candidates, choose

DEFAULT, FAST = Execution("fp32", "contiguous"), Execution("bf16", "channels_last")
OTHERS = [Execution("bf16", "contiguous"), Execution("fp32", "channels_last")]
HALF = [Execution("fp16", "channels_last"), Execution("fp16", "contiguous")]


class Clock:
    """Time that passes while a step runs: as long as the option takes, times what else the machine does."""

    def __init__(self, seconds: dict[Execution, float], load=lambda step: 1.0) -> None:
        self.now, self.seconds, self.load = 0.0, seconds, load
        self.runs: list[Execution] = []

    def prepare(self, option: Execution):
        def step() -> None:
            warm_up = option not in self.runs  # the first one compiles and allocates
            self.runs.append(option)
            self.now += self.seconds[option] * self.load(len(self.runs)) + 0.2 * warm_up

        return step

    def __call__(self) -> float:
        return self.now


def probed(seconds: dict[Execution, float], load=lambda step: 1.0):
    clock = Clock(seconds, load)
    choice, fastest = choose(list(seconds), clock.prepare, clock)
    return choice, fastest, clock


def test_the_default_is_kept_below_15_percent():
    assert probed({DEFAULT: 0.1149, FAST: 0.1})[0] == DEFAULT


def test_a_probe_takes_each_option_that_gains_15_percent_on_the_one_before_it():
    assert (
        probed({DEFAULT: 0.1151, FAST: 0.1, OTHERS[0]: 0.088})[0] == FAST
    )  # 13.6 % are a tie: the order decides
    assert probed({DEFAULT: 0.1151, FAST: 0.1, OTHERS[0]: 0.0869})[0] == OTHERS[0]


def test_the_first_step_of_a_probe_is_not_timed_and_the_others_are_interleaved():
    _, fastest, clock = probed({DEFAULT: 0.2, FAST: 0.1})
    assert fastest == pytest.approx({"fp32 contiguous": 0.2, "bf16 channels_last": 0.1})
    assert clock.runs == [DEFAULT, FAST] * 4


@pytest.mark.parametrize("phase", range(6))
def test_a_probe_chooses_alike_beside_any_load(phase):
    """Of processor seconds others take no more than caches: here 40 % in two thirds of the steps."""
    choice, _, _ = probed({DEFAULT: 0.1, FAST: 0.06}, lambda step: 1.4 if (step + phase) // 2 % 3 else 1.0)
    assert choice == FAST


def test_a_probe_stops_an_option_that_is_losing_within_a_step():
    """bf16 without units takes six times as long."""
    choice, _, clock = probed({DEFAULT: 0.2, FAST: 1.2})
    assert choice == DEFAULT
    assert clock.runs == [DEFAULT, FAST]


def test_a_probe_begins_no_round_when_its_time_is_over():
    _, _, clock = probed({DEFAULT: 0.9, FAST: 0.5})
    assert clock.runs == [DEFAULT, FAST] * 2


def test_a_probe_passes_over_what_a_device_cannot_compute():
    clock = Clock({DEFAULT: 0.2, OTHERS[1]: 0.1})

    def prepare(option: Execution):
        def fails() -> None:
            raise NotImplementedError("not implemented for BFloat16")

        return fails if option == FAST else clock.prepare(option)

    assert choose([DEFAULT, FAST, OTHERS[1]], prepare, clock)[0] == OTHERS[1]


CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("device", "units", "stated", "options"),
    [
        (CPU, True, ("auto", "auto"), [DEFAULT, FAST]),
        (CPU, False, ("auto", "auto"), [DEFAULT]),
        (CPU, True, ("bf16", "auto"), [FAST]),
        (CPU, False, ("bf16", "auto"), [OTHERS[0]]),
        (CPU, True, ("fp32", "auto"), [DEFAULT]),
        (CPU, True, ("auto", "channels_last"), [OTHERS[1], FAST]),
        (CUDA, True, ("auto", "auto"), [DEFAULT, FAST, *OTHERS]),
        (CUDA, True, ("bf16", "auto"), [FAST, OTHERS[0]]),
        (CUDA, False, ("auto", "auto"), [DEFAULT, *HALF, OTHERS[1]]),
        (CUDA, True, ("bf16", "contiguous"), [OTHERS[0]]),
        (CUDA, True, ("fp32", "channels_last"), [OTHERS[1]]),
        (MPS, False, ("auto", "auto"), [DEFAULT]),
    ],
)
def test_a_probe_tries_what_the_hardware_can_win_with_and_leaves_what_is_stated(
    monkeypatch, device, units, stated, options
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": units})
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert candidates(device, *stated) == options


def test_a_cpu_whose_bf16_is_switched_off_has_none(monkeypatch):
    """ONEDNN_MAX_CPU_ISA=AVX2, say."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert candidates(CPU, "auto", "auto") == [DEFAULT]


def test_a_single_option_is_not_run():
    def prepare(option: Execution):
        raise AssertionError("nothing to choose")

    assert choose([FAST], prepare) == (FAST, {})


@pytest.mark.parametrize(("name", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_asked_for(name, kind):
    with autocast(torch.device("cpu"), name)():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind
