"""Arithmetic and memory layout: of what the hardware can win with, what steps of the user's own model show.

Neither is faster everywhere, so "auto" measures and the run records. Two runs on one machine have to choose
alike: options that the hardware has no units for are not tried, the next in a stated order has to gain
`REQUIRED_GAIN` on the one before it, and steps count by the fastest, which noise hardly touches.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

REQUIRED_GAIN = 1.15  # below this an option is no better than the one before it
LOST = 1.25  # times as long as the first option: not tried further
ROUNDS = 3  # timed steps of each option
BUDGET = 2.0  # seconds, after which no further round is begun


@dataclass(frozen=True)
class Execution:
    """How a run computes. Recorded with the run and kept when it is resumed or replayed."""

    precision: str  # "fp32" or "bf16" (autocast; weights stay fp32)
    memory_format: str  # "contiguous" or "channels_last"


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """The context losses are computed in."""
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def settle(device: torch.device) -> dict[str, str]:
    """Set every switch of torch that changes bits on CUDA; the settings as a fingerprint records them.

    fp32 is fp32: without TF32, of whose 10 bits gradient penalties have no use, and bf16 is the fast choice.
    Memory that nothing was written to yet is not filled: it costs time, and nothing here reads it. cuBLAS
    takes its workspace, without which its sums vary, when it is first used; one that the user set is left.
    On other devices there is nothing to set.
    """
    if device.type != "cuda":
        return {}
    workspace = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    cudnn: Any = torch.backends.cudnn  # its stubs know neither of the two
    for switch in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn):
        switch.fp32_precision = "ieee"
    return {
        "deterministic": "warn",
        "tf32": "off",
        "cudnn_benchmark": "off",
        "cublas_workspace": workspace,
        "fill_uninitialized": "off",
    }


def candidates(device: torch.device, precision: str, memory_format: str) -> list[Execution]:
    """The options that are worth a try on a device, in their order; what the user stated is as stated.

    On a CPU format and precision go together: oneDNN orders what it convolves by itself, so that
    channels_last alone gained 2 to 20 % where both together gained 45 to 85. Elsewhere nothing is tried.
    """
    both = _has_bf16(device)
    default, fast = Execution("fp32", "contiguous"), Execution("bf16", "channels_last")
    options = [default, fast] if both else [default]
    if device.type == "cuda":
        mixed = [Execution("bf16", "contiguous")] if both else []
        options += [*mixed, Execution("fp32", "channels_last")]
    if precision != "auto":
        options = [option for option in options if option.precision == precision] or [
            Execution(precision, "contiguous")
        ]
    if memory_format != "auto":
        options = [Execution(option.precision, memory_format) for option in options]
    return list(dict.fromkeys(options))


def _has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16 faster than in fp32: it has units for it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    units = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # of x86 and ARM
    known = torch.cpu.get_capabilities()
    return any(known.get(unit) for unit in units) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds by which steps are compared: on a CPU those of this process, as others may be busy too."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def choose(
    options: list[Execution],
    prepare: Callable[[Execution], Callable[[], object]],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Execution, dict[str, float]]:
    """The first option, unless a later one gains `REQUIRED_GAIN` on the one chosen before it.

    prepare: makes a function that runs one training step with an option, on a model of its own.
    Returns the choice and the fastest seconds a step of every option. Steps are interleaved, so that a change
    of the machine's load falls on all alike. An option that fails, or is `LOST` behind the first one in its
    warm-up or in a timed step, makes no further step.
    """
    first = options[0]
    if len(options) == 1:
        return first, {}
    began = clock()
    steps: dict[Execution, Callable[[], object]] = {}
    fastest: dict[Execution, float] = {}

    def timed(option: Execution, best: dict[Execution, float]) -> None:
        start = clock()
        try:
            steps[option]()
        except RuntimeError:
            if option == first:
                raise
            del steps[option]  # what it cannot compute it cannot win with
            return
        best[option] = min(best.get(option, math.inf), clock() - start)
        if best[option] > LOST * best[first]:
            del steps[option]

    warm: dict[Execution, float] = {}  # first-touch memory, kernel selection
    for option in options:
        steps[option] = prepare(option)
        timed(option, warm)
    for number in range(ROUNDS):
        if len(steps) == 1 or (number and clock() - began > BUDGET):
            break
        for option in list(steps):
            timed(option, fastest)
    chosen = first
    for option in options[1:]:
        if option in fastest and fastest[option] * REQUIRED_GAIN <= fastest[chosen]:
            chosen = option
    return chosen, {
        f"{option.precision} {option.memory_format}": seconds for option, seconds in (fastest or warm).items()
    }
