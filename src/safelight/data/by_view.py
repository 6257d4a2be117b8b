"""What a network makes of every item of a pack, computed once: a file for each view, a row for each item.

A row is written once and in order: what was killed goes on behind the last whole block. Files are named by
the view, in a folder whose name hashes all that they depend on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.cache import move_into_place
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.data.space import Space
from safelight.data.view import View

BLOCK = 64  # items computed and written at once, at most
PIXELS = 1 << 22  # of a block, at most

Rows = tuple[NDArray[Any], ...]  # by view (N, ...): memory maps


def rows_by_view(
    folder: Path,
    pack: Pack,
    views: tuple[View, ...],
    shape: Callable[[int, int], tuple[int, ...]],
    dtype: type[np.generic],
    compute: Callable[[Tensor], NDArray[Any]],
    device: torch.device,
    progress: Progress | None = None,
) -> Rows:
    """The rows of every view: those in the folder, or computed now. Raises UserError.

    shape: of a row, for images (H, W). compute: x (b, C, H, W) in [-1, 1] on the device -> rows (b, *shape).
    """
    with FileLock(folder.with_suffix(".lock")):
        return tuple(_rows(folder, pack, view, shape, dtype, compute, device, progress) for view in views)


def read(rows: Rows, items: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[Any]:
    """Rows (b, ...) of items, each in its own view: which (b,), places among the views."""
    found = np.empty((len(items), *rows[0].shape[1:]), rows[0].dtype)
    for place in np.unique(which):
        own = which == place
        found[own] = rows[place][items[own]]
    return found


def _rows(
    folder: Path, pack: Pack, view: View, shape: Callable[[int, int], tuple[int, ...]],
    dtype: type[np.generic], compute: Callable[[Tensor], NDArray[Any]], device: torch.device,
    progress: Progress | None,
) -> NDArray[Any]:  # fmt: skip
    """The rows of one view, mapped into memory."""
    height, width = pack.images.shape[1:3]
    own = shape(*((width, height) if view.quarters % 2 else (height, width)))
    path, partial = folder / f"{view.name}.bin", folder / f"{view.name}.partial"
    if not path.exists():
        try:
            _compute(partial, pack, view, prod(own) * np.dtype(dtype).itemsize, compute, device, progress)
        except OSError as error:
            raise UserError(
                f"{partial}: cannot be written ({error.strerror}); make room, or set SAFELIGHT_CACHE"
            ) from error
        move_into_place(partial, path)
    return np.memmap(path, dtype, "r", shape=(len(pack), *own))


@torch.no_grad()
def _compute(
    partial: Path, pack: Pack, view: View, row: int, compute: Callable[[Tensor], NDArray[Any]],
    device: torch.device, progress: Progress | None,
) -> None:  # fmt: skip
    """Append the rows that are not there yet, a block at a time. row: bytes of one."""
    block = max(1, min(BLOCK, PIXELS // prod(pack.images.shape[1:3])))
    with partial.open("ab") as file:
        done = file.tell() // (row * block) * block
        file.truncate(done * row)
        for start in range(done, len(pack), block):
            pixels = torch.from_numpy(np.array(pack.images[start : start + block])).to(device)
            file.write(compute(Space().from_pixels(view.of(pixels, 1, 2))).tobytes())
            file.flush()
            os.fsync(file.fileno())
            if progress:
                progress(f"encoding {pack.name}, {view.name}", start + len(pixels), len(pack))
