"""Fingerprints: of the weights at a step, and of the environment that computed them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safelight.config import flatten
from safelight.engine.precision import settled


class WeightFingerprint:
    """A position-sensitive sum of the bits of all parameters, which are float32.

    Each weight's 32 bits, read as an integer, are multiplied (modulo 2**32) by an odd number for their place
    in the parameter's memory; the sum over a parameter (modulo 2**64) by one for the parameter. So a swap, a
    sign or one flipped bit shows, and so does another memory format. It detects divergence; it is no
    protection against forgery.
    """

    def __init__(self, nets: Mapping[str, nn.Module]) -> None:
        weights = [p.detach() for name in sorted(nets) for p in nets[name].parameters()]
        self._set([weight.as_strided((weight.numel(),), (1,)).view(torch.int32) for weight in weights])

    def _set(self, bits: list[Tensor], places: Sequence[int] | None = None) -> None:
        """bits: of each parameter, or of a part of it, whose first number has that place."""
        self._bits, places = bits, places or [0] * len(bits)
        ends = [place + len(part) for place, part in zip(places, bits, strict=True)]
        numbers = np.random.Philox(key=1).random_raw(max(ends, default=0)).view(np.int64) | 1
        device = bits[0].device if bits else torch.device("cpu")
        odd = torch.from_numpy(numbers.astype(np.int32)).to(device)
        self._odd = [odd[place:end] for place, end in zip(places, ends, strict=True)]
        of_parameters = np.random.Philox(key=2).random_raw(len(bits)).view(np.int64) | 1
        self._odd_of_parameters = torch.from_numpy(of_parameters).to(device)
        self._dot = torch.dot if device.type == "cpu" else _dot  # which CUDA has for floats only

    def __call__(self) -> Tensor:
        """The fingerprint of the weights as they are now, a 0-d int64 on their device."""
        if not self._bits:
            return torch.zeros((), dtype=torch.int64)
        return (self._sums() * self._odd_of_parameters).sum()

    def _sums(self) -> Tensor:
        """The sum of each parameter, int32."""
        return torch.stack([self._dot(bits, odd) for bits, odd in zip(self._bits, self._odd, strict=True)])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.int32)


def as_hex(fingerprint: int) -> str:
    """How a fingerprint is written in metrics: 16 hexadecimal digits."""
    return f"{fingerprint & (2**64 - 1):016x}"


def environment(
    device: torch.device, precision: str, memory_format: str, processes: int, compile: str = "off"
) -> dict[str, str | int]:
    """What the bits of a step depend on besides recipe, data and journal."""
    facts: dict[str, str | int] = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "memory_format": memory_format,
        "optimiser": "fused" if device.type in ("cpu", "cuda", "mps", "xpu") else "foreach",
        "compile": compile,
        "processes": processes,
    }
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        facts["onednn_isa"] = os.environ["ONEDNN_MAX_CPU_ISA"]
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
        facts |= settled(device)
    return facts


def count(nets: Mapping[str, nn.Module], names: Sequence[str] | None = None) -> int:
    """Number of parameters of some networks, all of them by default."""
    return sum(p.numel() for name in (names or list(nets)) for p in nets[name].parameters())


# Recorded since a later version: where an older session has none of them, nothing is known to differ.
LATER = ("deterministic", "tf32", "cudnn_benchmark", "cublas_workspace", "fill_uninitialized")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, one phrase a fact, by name; empty if nothing does.

    `differences({"threads": 1}, {"threads": 2}) == ["threads: 1, now 2"]`
    """
    old, new = flatten(before), flatten(now)
    phrases = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            phrases.append(f"{name}: {old[name]}, now unknown")
        elif name not in old:
            phrases += [] if name in LATER else [f"{name}: unknown, now {new[name]}"]
        elif old[name] != new[name]:
            phrases.append(f"{name}: {old[name]}, now {new[name]}")
    return phrases
