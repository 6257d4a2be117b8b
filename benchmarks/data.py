"""What a pack gains: reading it beside decoding files, and making it beside a plain Pillow loop.

    python benchmarks/data.py [small-images] [photos]

Two folders are made: small PNGs that are decoded as they are, and JPEG photographs that are cropped and
resized. The plain loop opens, converts, crops and resizes each file, and saves one array at the end; packing
also takes digests, checks, and flushes to the disk. Reading gathers shuffled rows, as training does, into
bytes, and into the float batch of a step. They take turns, so that the machine's load falls on all alike;
what is told are medians of images a second, and of the ratios of each round.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.packing import cores
from safelight.data.stream import Stream

ROUNDS = 5
SIZE = 64  # pixels
BATCH = 128
GOAL_READING, GOAL_PACKING = 20.0, 1.8  # times, the second on 2 cores


@dataclass(frozen=True)
class Files:
    """A folder of images."""

    title: str
    paths: list[Path]


def textures(count: int, height: int, width: int) -> Iterator[Image.Image]:
    """Images of blurred noise with some grain: they compress about as photographs do."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8) for _ in range(16)]
    grain = rng.integers(-6, 7, (height, width, 3))
    for number in range(count):
        smooth = Image.fromarray(coarse[number % 16]).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(smooth, int) + np.roll(grain, number, (0, 1))
        yield Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def small(folder: Path, count: int) -> Files:
    """PNGs of the size that is asked for."""
    folder.mkdir()
    paths = [folder / f"{number:06d}.png" for number in range(count)]
    for path, image in zip(paths, textures(count, SIZE, SIZE), strict=True):
        image.save(path)
    return Files(f"{count:,} PNGs of {SIZE}x{SIZE}", paths)


def photos(folder: Path, count: int) -> Files:
    """JPEGs of VGA size."""
    folder.mkdir()
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for path, image in zip(paths, textures(count, 480, 640), strict=True):
        image.save(path, quality=90)
    return Files(f"{count:,} JPEGs of 480x640", paths)


def plain(files: Files, out: Path) -> None:
    """What one writes without any of this."""
    images = []
    for path in files.paths:
        with Image.open(path) as image:
            images.append(
                np.asarray(ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS))
            )
    np.save(out, np.stack(images))


def pack(files: Files, cache: Path) -> None:
    """Into an empty cache, on as many processes as it finds worth it."""
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["SAFELIGHT_CACHE"] = str(cache)
    open_data(Data(path=str(files.paths[0].parent), size=SIZE, channels=3))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(files: Files, folder: Path) -> str:
    """The table of one folder."""
    count, cache = len(files.paths), folder / "cache"
    rates: dict[str, list[float]] = {"plain": [], "packing": [], "bytes": [], "batches": []}
    for _ in range(ROUNDS):
        rates["plain"].append(count / seconds(lambda: plain(files, folder / "plain.npy")))
        rates["packing"].append(count / seconds(lambda: pack(files, cache)))
        opened = open_data(Data(path=str(files.paths[0].parent), size=SIZE, channels=3))
        stream = Stream(opened, 0, BATCH)
        steps = range(max(1, 4 * len(opened.train) // BATCH))
        orders = [stream.items(step, range(BATCH)) for step in steps]
        rates["bytes"].append(
            len(steps) * BATCH / seconds(partial(gather, np.asarray(opened.images), orders))
        )
        rates["batches"].append(len(steps) * BATCH / seconds(partial(read, stream, steps)))
    return table_of(files.title, rates)


def gather(images: NDArray[np.uint8], orders: Sequence[NDArray[np.int64]]) -> None:
    """Shuffled rows of a pack, a batch at a time."""
    for order in orders:
        images[order]


def read(stream: Stream, steps: Iterable[int]) -> None:
    """The batches of steps."""
    for step in steps:
        stream.parts(step)


def table_of(title: str, rates: Mapping[str, Sequence[float]]) -> str:
    """Images a second by what is done, and how many times the plain loop's of the same round: medians."""
    names = {
        "plain": ("plain Pillow loop, one process", None),
        "packing": (f"packing, {cores()} cores", GOAL_PACKING),
        "bytes": ("reading the pack, bytes", GOAL_READING),
        "batches": ("reading the pack, float batches", GOAL_READING),
    }
    lines = [f"| {title}, to {SIZE}x{SIZE}x3 | images/s | times | goal |", "|---|---:|---:|---|"]
    for name, (words, goal) in names.items():
        rate = statistics.median(rates[name])
        times = statistics.median(
            images / base for images, base in zip(rates[name], rates["plain"], strict=True)
        )
        wanted = "" if goal is None else f"{goal:g}: {'met' if times >= goal else 'missed'}"
        lines.append(f"| {words} | {rate:,.0f} | {times:.2f} | {wanted} |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    counts = [int(word) for word in sys.argv[1:]] or [20_000, 2_000]
    with tempfile.TemporaryDirectory(prefix="safelight-benchmark-") as name:
        folder = Path(name)
        print(f"medians of {ROUNDS} rounds; load average {os.getloadavg()[0]:.1f} on {cores()} cores\n")
        print(measure(small(folder / "small", counts[0]), folder), end="\n\n", flush=True)
        print(measure(photos(folder / "photos", counts[-1]), folder), end="\n\n")
        print(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
