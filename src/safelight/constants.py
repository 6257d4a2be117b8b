"""Constants of a computation: made on the CPU once, and kept on every device that needs them.

A small tensor made anew in every forward pass costs a copy from the host each time, for which a GPU waits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def constant(
    make: Callable[..., Tensor], *what: Any, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """make(*what) on a device, as dtype where stated: the same tensor each time, never changed in place."""
    kept: Tensor = _kept(make, what, device, dtype)
    return kept


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch.compile keeps it as well
def _kept(
    make: Callable[..., Tensor], what: tuple[Any, ...], device: torch.device, dtype: torch.dtype | None
) -> Tensor:
    return _made(make, what, device, dtype)


@lru_cache(maxsize=512)
def _made(
    make: Callable[..., Tensor], what: tuple[Any, ...], device: torch.device, dtype: torch.dtype | None
) -> Tensor:
    with torch.inference_mode(False):  # or a training that comes later could not use it
        return make(*what).to(device, dtype)


def vector(*values: float) -> Tensor:
    """Numbers as a float32 tensor (n,)."""
    return torch.tensor(values, dtype=torch.float32)
