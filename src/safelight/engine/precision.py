"""Arithmetic and memory layout: chosen by timing the user's own model for a few steps.

Neither is faster everywhere (measured: 3.0x for bf16 and channels_last on a wide convolutional U-Net,
under 1.15x on a small one of group norms and attention), so "auto" measures and the run records.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch

REQUIRED_GAIN = 1.15  # below this, timing noise decides: keep fp32 and contiguous


@dataclass(frozen=True)
class Execution:
    """How a run computes. Recorded with the run and kept when it is resumed or replayed."""

    precision: str  # "fp32" or "bf16" (autocast; weights stay fp32)
    memory_format: str  # "contiguous" or "channels_last"


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """The context losses are computed in."""
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def candidates(precision: str, memory_format: str) -> list[Execution]:
    """The combinations that leave what the user stated as stated; the default comes first."""
    precisions = ["fp32", "bf16"] if precision == "auto" else [precision]
    formats = ["contiguous", "channels_last"] if memory_format == "auto" else [memory_format]
    return [Execution(p, f) for p in precisions for f in formats]


def choose(
    options: list[Execution], prepare: Callable[[Execution], Callable[[], object]], rounds: int = 3
) -> tuple[Execution, dict[str, float]]:
    """The fastest option, or the first unless another gains `REQUIRED_GAIN` over it.

    prepare: makes a function that runs one training step with an option, on a model of its own.
    Returns the choice and the median seconds a step of every option. Steps are interleaved, so that a
    change of the machine's load falls on all options alike.
    """
    if len(options) == 1:
        return options[0], {}
    steps = [prepare(option) for option in options]
    for step in steps:
        step()  # warm-up: first-touch memory, kernel selection
    times: list[list[float]] = [[] for _ in options]
    for _ in range(rounds):
        for step, own in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            own.append(time.perf_counter() - began)
    medians = [statistics.median(own) for own in times]
    best = min(range(len(options)), key=medians.__getitem__)
    if medians[0] < medians[best] * REQUIRED_GAIN:
        best = 0
    names = [f"{option.precision} {option.memory_format}" for option in options]
    return options[best], dict(zip(names, medians, strict=True))
