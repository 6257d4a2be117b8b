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

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
REQUIRED_GAIN = 1.15  # below this an option is no better than the one before it
LOST = 1.25  # times as long as the first option: not tried further
ROUNDS = 3  # timed steps of each option
BUDGET = 2.0  # seconds, after which no further round is begun


@dataclass(frozen=True)
class Execution:
    """How a run computes. Recorded with the run and kept when it is resumed or replayed."""

    precision: str  # "fp32", or "bf16" or "fp16" (autocast; weights stay fp32)
    memory_format: str  # "contiguous" or "channels_last"
    compile: str = "off"  # or the backend of torch.compile; see compiled.py

    @property
    def words(self) -> str:
        """How lines for the user say it."""
        return f"{self.precision} {self.memory_format}" + ", compiled" * (self.compile != "off")


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """The context losses are computed in."""
    return partial(torch.autocast, device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES)


def settle(device: torch.device, *, tf32: bool = False, deterministic: bool = True) -> None:
    """Set every switch of torch that changes bits on CUDA.

    fp32 is fp32 unless TF32 is wanted, of whose 10 bits gradient penalties have no use; bf16 is the fast
    choice. Memory that nothing was written to yet is not filled: it costs time, and nothing here reads it.
    cuBLAS takes its workspace, without which its sums vary, when it is first used; one that the user set is
    left. On other devices there is nothing to set.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    for switch in _fp32_switches():
        switch.fp32_precision = "tf32" if tf32 else "ieee"


def settled(device: torch.device) -> dict[str, str]:
    """The switches of `settle` as they are now, for a fingerprint."""
    if device.type != "cuda":
        return {}
    return {
        "deterministic": "warn" if torch.are_deterministic_algorithms_enabled() else "off",
        "tf32": "on" if any(switch.fp32_precision == "tf32" for switch in _fp32_switches()) else "off",
        "cudnn_benchmark": "on" if torch.backends.cudnn.benchmark else "off",
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "fill_uninitialized": "on" if torch.utils.deterministic.fill_uninitialized_memory else "off",  # type: ignore[attr-defined]
    }


def _fp32_switches() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn  # its stubs know neither of the two
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn


def candidates(device: torch.device, precision: str, memory_format: str) -> list[Execution]:
    """The options that are worth a try on a device, in their order; what the user stated is as stated.

    On a CPU format and precision go together: oneDNN orders what it convolves by itself, so that
    channels_last alone gained 2 to 20 % where both together gained 45 to 85. Elsewhere nothing is tried.
    """
    half = "bf16" if _has_bf16(device) else "fp16" if device.type == "cuda" else None
    options = [Execution("fp32", "contiguous"), *([Execution(half, "channels_last")] if half else [])]
    if device.type == "cuda" and half:
        options += [Execution(half, "contiguous"), Execution("fp32", "channels_last")]
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
    return chosen, {option.words: seconds for option, seconds in (fastest or warm).items()}


def pays(eager: float, compiled: float, compiling: float, steps: int) -> bool:
    """Whether compiled steps are so much faster that they make up for `compiling` within a run of `steps`.

    All in seconds; a gain below `REQUIRED_GAIN` is taken for noise.
    """
    return compiled * REQUIRED_GAIN <= eager and steps * (eager - compiled) > compiling
