"""Fingerprints: of the weights at a step, and of the environment that computed them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 1 << 22  # weights: bounds the extra memory to 32 MiB; part of the definition, like the odd numbers


class WeightFingerprint:
    """A position-sensitive sum of the bits of all parameters, which are float32.

    Two weights at a time, read as one 64-bit integer, are multiplied (modulo 2**64) by an odd number for
    their position, so a swap, a sign or one flipped bit shows. It detects divergence; it is no protection
    against forgery.
    """

    def __init__(self, nets: Mapping[str, nn.Module]) -> None:
        chunks: list[list[Tensor]] = []
        for parameter in (p.detach() for name in sorted(nets) for p in nets[name].parameters()):
            if not chunks or _size(chunks[-1]) + parameter.numel() > CHUNK:
                chunks.append([])
            chunks[-1].append(parameter)
        longest = max(map(_size, chunks), default=0)
        device = chunks[0][0].device if chunks else torch.device("cpu")
        self._copy = torch.zeros(longest + longest % 2, device=device)
        self._chunks = [(chunk, _places(chunk, self._copy), _size(chunk)) for chunk in chunks]
        odd = np.random.Philox(key=1).random_raw(len(self._copy) // 2).view(np.int64) | 1
        self._odd = torch.from_numpy(odd).to(device)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The fingerprint of the weights as they are now, a 0-d int64 on their device."""
        total = torch.zeros((), dtype=torch.int64, device=self._copy.device)
        for weights, places, size in self._chunks:
            torch._foreach_copy_(places, weights)
            self._copy[size : size + size % 2] = 0  # half of the last pair, left by a longer chunk
            pairs = self._copy[: size + size % 2].view(torch.int64)
            total = total * 31 + pairs.mul_(self._odd[: len(pairs)]).sum()
        return total


def _size(weights: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in weights)


def _places(weights: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    """One after the other in `flat`, in logical order whatever the memory format."""
    parts = torch.split(flat[: _size(weights)], [tensor.numel() for tensor in weights])
    return [part.view(tensor.shape) for part, tensor in zip(parts, weights, strict=True)]


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
