"""Pictures of a run as the page shows them: the images of a sheet in a grid, without lettering, exactly."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from safelight import files
from safelight.config import UserError
from safelight.render.sheet import Images
from safelight.render.sheet_file import layout_of, open_picture, read_sheet
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable

GAP = 32  # pixels of an image for each pixel between images, one at least
FOLDERS = {"sheets": ".png", "panels": ".png", "specimens": ".png"}  # whose files may be looked at


@dataclass(frozen=True)
class Grid:
    """Where the images of a grid are, in pixels."""

    count: int
    columns: int
    height: int
    width: int
    gap: int


def grid_of(count: int, columns: int, height: int, width: int) -> Grid:
    """A grid of images of one size."""
    return Grid(count, min(columns, count), height, width, max(1, max(height, width) // GAP))


def tiled(images: Images, columns: int) -> bytes:
    """Images (N, H, W, C), C 1 or 3, as a PNG of a grid; what is between them is transparent."""
    count, height, width, channels = images.shape
    grid = grid_of(count, columns, height, width)
    rows = -(-count // grid.columns)
    down, across = height + grid.gap, width + grid.gap
    pixels = np.zeros((rows * down - grid.gap, grid.columns * across - grid.gap, 4), np.uint8)
    for index, image in enumerate(images):
        y, x = (index // grid.columns) * down, (index % grid.columns) * across
        pixels[y : y + height, x : x + width, :3] = image[:, :, :3] if channels > 1 else image
        pixels[y : y + height, x : x + width, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def path_in(directory: RunDirectory, folder: str, name: str) -> Path:
    """The path of a picture of a run. Raises UserError unless the folder's listing has it, in the run."""
    place = directory.path / folder
    with mendable(place):
        listed = folder in FOLDERS and place.is_dir() and name in os.listdir(place)
        inside = os.path.realpath(place) == os.path.join(os.path.realpath(directory.path), folder)
    if not listed or not inside or not name.endswith(FOLDERS[folder]):
        raise UserError(f"{directory.name}: has no picture {folder}/{name}")
    return place / name


def picture(directory: RunDirectory, folder: str, name: str) -> bytes:
    """A picture as it was saved. Raises UserError."""
    path = path_in(directory, folder, name)
    with mendable(path):
        return files.read(path, links=False)


def version_of(path: Path) -> str:
    """What changes with a file, for addresses that never do."""
    with mendable(path):
        stat = path.lstat()
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


def tiles(directory: RunDirectory, step: int, columns: int | None = None, most: int | None = None) -> bytes:
    """The images of a sheet as a grid. most: of them, the first. Raises UserError."""
    return tiles_in(path_in(directory, "sheets", f"{step:08d}.png"), columns, most)


def tiles_in(path: Path, columns: int | None = None, most: int | None = None) -> bytes:
    """The images of a sheet at a path, likewise. Raises UserError."""
    return _tiles(path, version_of(path), columns, most)


def layout(directory: RunDirectory, step: int) -> Grid | None:
    """The grid of a sheet as it was saved; None for a picture that is no sheet. Raises UserError."""
    return layout_in(path_in(directory, "sheets", f"{step:08d}.png"))


def layout_in(path: Path) -> Grid | None:
    """The grid of a sheet at a path, likewise. Raises UserError."""
    return _layout(path, version_of(path))


@lru_cache(256)
def _layout(path: Path, version: str) -> Grid | None:
    saved = layout_of(open_picture(path))
    return grid_of(saved.count, saved.columns, saved.height, saved.width) if saved else None


@lru_cache(96)
def _tiles(path: Path, version: str, columns: int | None, most: int | None) -> bytes:
    saved = layout_of(open_picture(path))
    return tiled(read_sheet(path)[:most], columns or (saved.columns if saved else 1))
