"""Shapes painted by the signed distance to their edges, so that every edge is smooth at any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float64]  # (3,) of 0 to 255
Plane = NDArray[np.float64]  # (H, W)


@dataclass(frozen=True, eq=False)
class Paper:
    """A picture that is painted on, or a part of one."""

    image: NDArray[np.float64]  # (H, W, 3)
    x: Plane  # of its points, in half heights of a head, seen from the face
    y: Plane
    unit: float  # pixels in one of them

    @classmethod
    def seen_from(cls, size: tuple[int, int], right: float, down: float, zoom: float, tilt: float) -> Paper:
        """An empty picture (H, W) with a head a little off its middle."""
        height, width = size
        unit = min(height, width) * 0.38 * zoom
        rows, columns = np.mgrid[0:height, 0:width] + 0.5
        across = (columns - width / 2) / unit - right
        along = (rows - height * 0.47) / unit - down
        cosine, sine = (1 + tilt * tilt) ** -0.5, tilt * (1 + tilt * tilt) ** -0.5
        x, y = cosine * across + sine * along, cosine * along - sine * across
        return cls(np.empty((height, width, 3)), x, y, unit)

    def near(self, x: float, y: float, reach: float) -> Paper:
        """The part about a point: most of a face is small, and painted three times faster there."""
        inside = (np.abs(self.x - x) < reach) & (np.abs(self.y - y) < reach)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Paper(self.image[part], self.x[part], self.y[part], self.unit)

    def light(self, colour: Colour, light: float) -> None:
        """The paper, brighter on one side."""
        self.image[:] = colour * (0.96 + 0.08 * (light - 0.5) * np.clip(self.x, -1.5, 1.5))[..., None]

    def put(self, distance: Plane, colour: Colour, strength: float = 1.0) -> None:
        """Paint what lies within a shape, by the signed distance to its edge, which is a pixel wide."""
        if strength > 0:
            cover = np.clip(0.5 - distance * self.unit, 0, 1) * strength
            self.image[...] += cover[..., None] * (colour - self.image)

    def pixels(self) -> NDArray[np.uint8]:
        return np.rint(np.clip(self.image, 0, 255)).astype(np.uint8)


def ellipse(x: Plane, y: Plane, a: float, b: float) -> Plane:
    """Distance to an ellipse of half axes a and b, exact at its edge to first order."""
    scaled = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    steep = np.sqrt((x / (a * a)) ** 2 + (y / (b * b)) ** 2) + 1e-9
    distance: Plane = scaled * (scaled - 1) / steep
    return distance


def box(x: Plane, y: Plane, a: float, b: float, corner: float) -> Plane:
    """Distance to a rectangle of half sides a and b with round corners."""
    corner = min(corner, a, b)
    right, down = np.abs(x) - (a - corner), np.abs(y) - (b - corner)
    outer = np.sqrt(np.maximum(right, 0) ** 2 + np.maximum(down, 0) ** 2)
    distance: Plane = outer + np.minimum(np.maximum(right, down), 0) - corner
    return distance
