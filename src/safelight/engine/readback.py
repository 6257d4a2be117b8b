"""Numbers read back from a device while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def read_later(values: Tensor) -> Callable[[], list[Any]]:
    """A function that gives values (n,) as numbers: on CUDA a copy begins now, and is waited for then."""
    if values.device.type != "cuda":
        return lambda: list(values.tolist())
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def read() -> list[Any]:
        copied.synchronize()
        return list(host.tolist())

    return read
