"""Tensors of one shape into those of a larger network: a linear map (t, s) for each dimension.

Widths, by any factor: channel j of the larger network is channel ⌊j s / t⌋ of the smaller one, and what
enters a layer from the copies of a channel is shared among them in unequal parts that add up to 1, so that
the copies do not stay equal (Chen 2016, Net2Wider, the symmetry broken by the parts in place of noise).
Copies that lie together survive concatenation, chunks and group norms: for a factor that is whole the
function stays the same, but within attention, whose heads are then cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Side = Literal["in", "out", "row"]  # what a dimension is to its layer; row: of a table, looked up by number


@dataclass(frozen=True)
class Axis:
    """A dimension of a tensor: what it is made of, front to back, in units of several entries each.

    channels: of the image, `per_channel` entries each. values: of a condition, `per_value` each, at the end.
    block: entries that a pixel shuffle takes together.
    """

    side: Side
    per_channel: int = 0
    per_value: int = 0
    block: int = 1


def sides(module: nn.Module, key: str, dimensions: int) -> list[Side]:
    """What each dimension of a module's tensor is."""
    kinds: list[Side] = ["out"] * dimensions
    if isinstance(module, nn.Embedding):
        kinds[0] = "row"
    elif key == "weight" and dimensions >= 2:
        kinds[0 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 1] = "in"
    return kinds


def widened(target: int, source: int, side: Side) -> Tensor:
    """The map of a width (target, source), target ≥ source."""
    origin = torch.arange(target) * source // target
    matrix = torch.zeros(target, source, dtype=torch.float64)
    shares = torch.ones(target, dtype=torch.float64)
    if side == "in":
        golden = torch.arange(1, target + 1, dtype=torch.float64) * 0.6180339887498949
        shares = 0.5 + golden % 1  # spread evenly over 0.5 to 1.5, neighbours far apart
        shares = shares / torch.zeros(source, dtype=torch.float64).index_add(0, origin, shares)[origin]
    matrix[torch.arange(target), origin] = shares
    return matrix


def recoloured(target: int, source: int, side: Side) -> Tensor:
    """The map of image channels: grey to colour and back keep what grey pictures become; alpha is apart."""
    matrix = torch.eye(target, source, dtype=torch.float64)
    if min(target, source) == 1 and max(target, source) in (3, 4):
        matrix[:3, :3] = 1.0 if (side == "out") == (source == 1) else 1 / 3
    return matrix


def matched(target: Sequence[str], source: Sequence[str]) -> Tensor:
    """The map of the values of a condition: those of equal names."""
    places = {name: number for number, name in enumerate(source) if name}
    matrix = torch.zeros(len(target), len(source), dtype=torch.float64)
    for number, name in enumerate(target):
        if name in places:
            matrix[number, places[name]] = 1
    return matrix


def axis_map(
    axis: Axis, target: int, source: int, channels: tuple[int, int], values: Tensor | None
) -> Tensor | None:
    """The map of a dimension (target, source); None where there is none, as into a narrower network.

    channels: of the image, (target, source). values: `matched` of the condition that the dimension holds.
    """
    spans: list[tuple[Tensor, int]] = []  # each a map, and the entries of its unit
    if axis.per_channel:
        spans.append((recoloured(*channels, axis.side), axis.per_channel))
    tail = [(values, axis.per_value)] if axis.per_value and values is not None else []
    rest = [target, source]
    for matrix, unit in spans + tail:
        rest = [left - size * unit for left, size in zip(rest, matrix.shape, strict=True)]
    if rest[1] < 0 or rest[0] < rest[1] or (rest[0] > 0 and rest[1] == 0):
        return None
    if rest[0]:
        block = axis.block if not any(size % axis.block for size in rest) else 1
        spans.append((widened(rest[0] // block, rest[1] // block, axis.side), block))
    maps = [torch.kron(matrix, torch.eye(unit, dtype=torch.float64)) for matrix, unit in spans + tail]
    whole: Tensor = torch.block_diag(*maps) if maps else torch.zeros(0, 0, dtype=torch.float64)  # type: ignore[no-untyped-call]
    return whole if whole.shape == (target, source) else None


def grown(fresh: Tensor, source: Tensor, maps: Mapping[int, Tensor], fill: Mapping[int, bool]) -> Tensor:
    """A tensor of the shape of `fresh` from that of a source, by the maps of its dimensions.

    fill: by dimension, whether entries that come from nowhere stay as in `fresh`; they are zero otherwise.
    """
    result = source.double()
    missing = torch.zeros(fresh.shape, dtype=torch.bool)
    for dimension, matrix in maps.items():
        result = torch.tensordot(matrix, result, dims=([1], [dimension])).movedim(0, dimension)
        if fill.get(dimension):
            nowhere = ~matrix.bool().any(1)
            shape = [-1 if other == dimension else 1 for other in range(fresh.ndim)]
            missing |= nowhere.reshape(shape)
    return torch.where(missing.to(fresh.device), fresh, result.to(fresh.device, fresh.dtype))
