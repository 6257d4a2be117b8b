"""Fingerprints: of the weights at a step, and of the environment that computed them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        numbers = np.random.Philox(key=1).random_raw((longest + 1) // 2).view(np.int64) | 1
        odd = torch.from_numpy(numbers).to(device)
        copy = torch.zeros(2 * len(odd), device=device)
        self._zero = torch.zeros((), dtype=torch.int64, device=device)
        self._chunks = [Chunk.of(weights, copy, odd) for weights in chunks]

    def __call__(self) -> Tensor:
        """The fingerprint of the weights as they are now, a 0-d int64 on their device."""
        total = self._zero
        for chunk in self._chunks:
            total = total * 31 + chunk.sum()
        return total


@dataclass(frozen=True)
class Chunk:
    """Weights that are summed together: copied in a row, in logical order whatever the memory format."""

    weights: list[Tensor]
    places: list[Tensor]  # of the weights in the copy, which the chunks share
    rest: Tensor  # half of the last pair, which a longer chunk has left there; empty for an even number
    pairs: Tensor  # the copy as int64
    odd: Tensor

    @classmethod
    def of(cls, weights: list[Tensor], copy: Tensor, odd: Tensor) -> Chunk:
        size = _size(weights)
        parts = torch.split(copy[:size], [tensor.numel() for tensor in weights])
        places = [part.view(tensor.shape) for part, tensor in zip(parts, weights, strict=True)]
        even = size + size % 2
        return cls(weights, places, copy[size:even], copy[:even].view(torch.int64), odd[: even // 2])

    def sum(self) -> Tensor:
        """Σ pair x odd number, modulo 2**64, of the weights as they are now; 0-d int64."""
        torch._foreach_copy_(self.places, self.weights)
        self.rest.zero_()
        return self.pairs.mul_(self.odd).sum()


def _size(weights: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in weights)


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
