"""Whether a device can hold a training: refused before the first step where it cannot."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from safelight.config import UserError
from safelight.store.size import words
from safelight.types import DataSpec, Method

KEPT_FREE = 0.92  # of a GPU's memory that tensors can use; the rest is the driver's, and fragments


def memory(device: torch.device) -> int:
    """Bytes of memory that a training can have on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * KEPT_FREE)
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def require_memory(method: Method, spec: DataSpec, device: torch.device, parts: int = 1) -> None:
    """Raises UserError where the device cannot hold the networks, their gradients and the moments of Adam.

    They are counted without being built. parts: that they are cut into, one a device.
    """
    with (
        torch.device("meta"),
        warnings.catch_warnings(),
        suppress(RuntimeError),
    ):  # a network that reads values
        warnings.simplefilter("ignore")  # weights that would be read from files
        nets = method.networks(spec).values()
        count = sum(p.numel() for net in nets for p in net.parameters())
        _require("networks take", 16 * count // parts, device)


def require_memory_of_images(rows: int, spec: DataSpec, device: torch.device) -> None:
    """Raises UserError where the device cannot hold `rows` images, b of (b, C, H, W), in fp32."""
    _require("images of a step take", 4 * rows * math.prod(spec.shape), device)


def _require(subject: str, needed: int, device: torch.device) -> None:
    if needed > (free := memory(device)) > 0:
        raise UserError(
            f"the {subject} at least {words(needed)} of memory, and {words(free)} are free; make network "
            "smaller, lower train.batch_size, or raise train.accumulate"
        )
