"""Aspect ratio buckets: images of several shapes, of about one area, in batches of one shape each.

The idea is NovelAI's (2022), which kohya's sd-scripts took up: an image goes to the shape of the nearest
ratio of sides, so that next to nothing is cut. Here shapes are chosen from the images, and which bucket a
step takes is a pure function of (seed, step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError

Shape = tuple[int, int]  # (H, W) in pixels
Sizes = NDArray[np.int64]  # (n, 2), heights and widths

MULTIPLE = 8  # pixels that sides divide by, where neither a recipe nor its network says so
AREA = 0.1  # how far, relatively, the area of a bucket may be from that of data.size
LONGEST = 4.0  # times the shorter side that the longer one of a proposed bucket has, at most
FEWEST, SHARE = 8, 0.01  # images of a proposed bucket: so many, and that share of all


def at_ratio(ratio: float, area: float, multiple: int) -> Shape:
    """The shape of about an area whose height / width is nearest to a ratio, of multiples of a number."""
    shapes = candidates(area, multiple, math.inf)
    return shapes[int(nearest(np.array([[ratio, 1.0]]), shapes)[0])]


def candidates(area: float, multiple: int, longest: float = LONGEST) -> list[Shape]:
    """Shapes within AREA of an area, sides divisible by `multiple`, the squarest first.

    longest: times the shorter side that the longer one has, at most.
    """
    shapes = []
    for width in range(multiple, int(area * (1 + AREA) / multiple) + 1, multiple):
        least, most = (area * share / width / multiple for share in (1 - AREA, 1 + AREA))
        heights = (multiple * number for number in range(max(1, math.ceil(least)), math.floor(most) + 1))
        shapes += [(height, width) for height in heights
                   if max(height, width) <= longest * min(height, width)]  # fmt: skip
    return sorted(shapes, key=lambda shape: (abs(math.log(shape[0] / shape[1])), shape))


def nearest(sizes: NDArray[np.generic], shapes: Sequence[Shape]) -> NDArray[np.int64]:
    """(n,) which shape's ratio of height to width is nearest to that of sizes (n, 2), by |log|.

    Of shapes equally near it is the first.
    """
    heights, widths = np.asarray(sizes, np.float64).T
    ratios = np.log(np.array([height / width for height, width in shapes]))
    distances = np.abs(np.log(heights / widths)[:, None] - ratios)
    return np.asarray(np.round(distances, 9).argmin(1))  # rounded: mirrored ratios are equally far


def cuts(sizes: NDArray[np.generic], shapes: Sequence[Shape]) -> NDArray[np.float64]:
    """(n,) the share of images of sizes (n, 2) that a crop to the nearest of the shapes cuts off."""
    heights, widths = np.asarray(sizes, np.float64).T
    chosen = np.array(shapes, np.float64)[nearest(sizes, shapes)]
    across = np.log(heights / widths) - np.log(chosen[:, 0] / chosen[:, 1])
    return np.asarray(1 - np.exp(-np.abs(across)))


def proposed(sizes: Sizes, area: float, multiple: int, count: int) -> list[Shape]:
    """At most `count` shapes for images of sizes (n, 2), each the candidate with which least is cut in all.

    Each takes FEWEST images and SHARE of all at least, but for the first. Raises UserError where no shape
    of that area divides by `multiple`.
    """
    if not (shapes := candidates(area, multiple)):
        side = round(math.sqrt(area))
        raise UserError(
            f"data.size: no shape of about {side}x{side} pixels divides by {multiple}, as the network needs; "
            f"set data.size={max(1, round(side / multiple)) * multiple}"
        )
    ratios, counts = np.unique(np.log(sizes[:, 0] / sizes[:, 1]).round(3), return_counts=True)
    each = np.stack([np.exp(ratios), np.ones(len(ratios))], 1)
    least = max(FEWEST, SHARE * len(sizes))
    away = np.abs(ratios[:, None] - np.log([height / width for height, width in shapes]))  # (ratios, shapes)
    taken, near = list[Shape](), np.full(len(ratios), np.inf)
    for _ in range(count):
        losses = counts @ (1 - np.exp(-np.minimum(away, near[:, None])))
        lowest = counts @ (1 - np.exp(-near)) - 1e-9 * len(sizes)
        for place in np.argsort(losses, kind="stable"):
            tried = [*taken, shapes[place]]
            held = np.bincount(nearest(each, tried), counts, len(tried))
            if losses[place] >= lowest or not taken or held.min() >= least:
                break
        if losses[place] >= lowest:
            break
        taken, near = tried, np.minimum(near, away[:, place])
    return taken


def chosen(stated: int | Sequence[str | Shape], sizes: Sizes, size: Shape, multiple: int) -> list[Shape]:
    """The shapes of `data.buckets`, that of most images first, those of none left out.

    stated: how many to propose at most, or shapes and ratios such as "3:2", width to height. sizes: (n, 2),
    of the images. size: data.size, whose area all have. Raises UserError.
    """
    area = math.prod(size)
    if isinstance(stated, int):
        shapes = proposed(sizes, area, multiple, stated)
    else:
        shapes = list(dict.fromkeys(_shape(shape, area, multiple) for shape in stated))
    for height, width in shapes:
        if height % multiple or width % multiple:
            raise UserError(
                f"data.buckets: sides of {height}x{width} do not divide by {multiple}, as the network needs; "
                "change them, or state data.bucket_multiple"
            )
        if abs(height * width / area - 1) > AREA:
            raise UserError(
                f"data.buckets: {height}x{width} has {height * width / area:.3g} times the pixels of "
                f"data.size={size[0]}x{size[1]}; at most {AREA:.0%} more or fewer fit, so change one of them"
            )
    counts = np.bincount(nearest(sizes, shapes), minlength=len(shapes))
    order = sorted(range(len(shapes)), key=lambda place: -counts[place])
    return [shapes[place] for place in order if counts[place]]


def _shape(stated: str | Shape, area: float, multiple: int) -> Shape:
    if not isinstance(stated, str):
        return stated
    width, height = map(int, stated.split(":"))
    try:
        return at_ratio(height / width, area, multiple)
    except ValueError as error:
        raise UserError(f"data.buckets: no shape divides by {multiple}; change data.size") from error
