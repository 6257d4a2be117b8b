"""Fingerprints: of the weights at a step, and of the environment that computed them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 1 << 22  # elements: bounds the extra memory to 32 MiB whatever the model's size


class WeightFingerprint:
    """A position-sensitive sum of the bits of all parameters: 0.2 ms for a million.

    Each element's 32 bits, read as an integer, are multiplied (modulo 2**32) by an odd number for its
    position, so a swap, a sign or one flipped bit shows. It detects divergence; it is no protection
    against forgery.
    """

    def __init__(self, nets: Mapping[str, nn.Module]) -> None:
        self._chunks: list[list[Tensor]] = [[]]
        size = 0
        for name in sorted(nets):
            for parameter in nets[name].parameters():
                flat = _bits(parameter.detach())
                if size and size + flat.numel() > CHUNK:
                    self._chunks.append([])
                    size = 0
                self._chunks[-1].append(parameter.detach())
                size += flat.numel()
        longest = max((sum(t.numel() for t in chunk) for chunk in self._chunks), default=0)
        device = self._chunks[0][0].device if self._chunks[0] else torch.device("cpu")
        odd = np.random.Philox(key=1).random_raw(longest).astype(np.int64).astype(np.int32) | 1
        self._odd = torch.from_numpy(odd).to(device)

    def __call__(self) -> Tensor:
        """The fingerprint of the weights as they are now, a 0-d int64 on their device."""
        total = torch.zeros((), dtype=torch.int64, device=self._odd.device)
        for number, chunk in enumerate(self._chunks):
            if chunk:
                bits = torch.cat([_bits(parameter) for parameter in chunk])
                total = total * 31 + bits.mul_(self._odd[: bits.numel()]).sum(dtype=torch.int64) + number
        return total


def _bits(parameter: Tensor) -> Tensor:
    """The bits of a float32 tensor as a flat int32 tensor, in logical order whatever the memory format."""
    return parameter.contiguous().view(torch.int32).reshape(-1)


def as_hex(fingerprint: int) -> str:
    """How a fingerprint is written in metrics: 16 hexadecimal digits."""
    return f"{fingerprint & (2**64 - 1):016x}"


def environment(
    device: torch.device, precision: str, memory_format: str, processes: int
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
        "compile": "off",
        "processes": processes,
    }
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        facts["onednn_isa"] = os.environ["ONEDNN_MAX_CPU_ISA"]
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
    return facts


def count(nets: Mapping[str, nn.Module], names: Sequence[str] | None = None) -> int:
    """Number of parameters of some networks, all of them by default."""
    return sum(p.numel() for name in (names or list(nets)) for p in nets[name].parameters())
