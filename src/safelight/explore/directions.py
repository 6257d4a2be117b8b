"""Directions of latents that a generator itself suggests: principal ones, and in closed form.

    pca    GANSpace (Haerkoenen 2020): principal components of many styles w; of a generator without styles
           those of its pictures, brought to its latents by least squares
    sefa   SeFa (Shen and Zhou 2021): eigenvectors of AᵀA, A the affines of all styled layers stacked, or the
           first linear layer that sees z: the steps that change what it makes most

Neither needs labels, or images other than the generator's. A step is a deviation of latents along it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.explore.latents import Repeated
from safelight.explore.traverse import CHUNK, components
from safelight.loading.model import Model
from safelight.networks.style_generator import Modulated
from safelight.randomness import RowDraw
from safelight.types import Draw, Panel, Styled, Values

REACH = 3.0  # steps to either side, where nothing is said
MANY = 4096  # latents that are looked at
PICTURES = 1000  # and of how many the picture is
SIDE = 32  # pictures are compared at that size at most
SHARES = {"pca": "the variance", "sefa": "what the layers make of latents"}  # of which a direction has one


@dataclass(frozen=True)
class DirectionRange:
    """A direction in words: its kind, its number from 1, how far it is gone along."""

    kind: str
    number: int
    low: float = -REACH
    high: float = REACH

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


def read(text: str) -> DirectionRange:
    """The direction of "pca:1" or "sefa:2=-4..4". Raises UserError."""
    match = re.fullmatch(r"(pca|sefa):(\d{1,6})(?:=([^=]+?)\.\.([^=]+))?", text.strip())
    try:
        ends = (float(match[3]), float(match[4])) if match and match[3] else (-REACH, REACH)
    except ValueError:
        match = None
    if match is None or not all(map(math.isfinite, ends)):
        raise UserError(f"direction {text}: expected pca:1 or sefa:1, with a range pca:1=-3..3")
    return DirectionRange(match[1], int(match[2]), *ends)


@dataclass(frozen=True)
class Directions:
    """steps: (k, D), the most important first, the largest entry of each positive. shares: (k,), sum 1.

    Both on the CPU, in float64, wherever the latents are.
    """

    steps: Tensor
    shares: Tensor


def principal(points: Tensor) -> Directions:
    """Of points (n, D), by what share of their variance lies along each."""
    axes = components(points)
    return Directions(axes.directions * axes.deviations[:, None], axes.shares)


def transferred(latents: Tensor, features: Tensor) -> Directions:
    """The steps of latents (n, D) that go with the principal components of features (n, F).

    Least squares of the latents on the components' coordinates. These are uncorrelated, so that each step is
    a covariance; it moves its component by one deviation where features are linear in latents.
    """
    axes = components(features)
    count = min(latents.shape[1], len(axes.directions))
    spread = axes.deviations[:count].clamp(min=1e-12)
    coordinates = (features.cpu().double() - axes.mean) @ axes.directions[:count].T / spread
    latents = latents.cpu().double()
    steps = coordinates.T @ (latents - latents.mean(0)) / max(len(latents) - 1, 1)
    return Directions(signed(steps), axes.shares[:count])


def closed_form(matrix: Tensor, points: Tensor) -> Directions:
    """Eigenvectors of AᵀA, A (m, D), each as long as points (n, D) deviate along it."""
    matrix, points = matrix.cpu().double(), points.cpu().double()
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    directions = signed(vectors.T.flip(0))
    values = values.flip(0).clamp(min=0)
    spread = (points @ directions.T).std(0)
    return Directions(directions * spread[:, None], values / values.sum().clamp(min=1e-12))


def signed(rows: Tensor) -> Tensor:
    """Rows (k, D), turned so that the largest entry of each is positive."""
    return rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()


@torch.no_grad()
def suggested(model: Model, kind: str, given: Values, present: Tensor) -> Directions:
    """The directions of a kind, from the same latents always. Raises UserError for latents that are pictures.

    given, present: conditions of one row, under which pictures are made.
    """
    draw = RowDraw(0, 0, "directions", range(MANY), present.device)
    z = model.method.latent(draw)
    if z.ndim != 2:
        size = "x".join(map(str, z.shape[1:]))
        raise UserError(
            f"direction {kind}: the latents of this run are images, {size}, not vectors; "
            "--attribute varies its conditions"
        )
    if isinstance(model.method, Styled):
        w = model.method.style(model.nets, z, model.how)[:, 0].float()
        return principal(w) if kind == "pca" else closed_form(affines(model.nets), w)
    if kind == "sefa":
        return closed_form(first_layer(model, z.shape[1], given, present), z)
    z = z[:PICTURES]
    rows = [pictures(model, part, given, present) for part in torch.split(z, CHUNK)]
    return transferred(z, torch.cat(rows))


def affines(nets: Mapping[str, nn.Module]) -> Tensor:
    """The affines of every modulated layer, (inputs of all, D), as they are used. Raises UserError."""
    linears = [
        layer.affine for net in nets.values() for layer in net.modules() if isinstance(layer, Modulated)
    ]
    if not linears:
        raise UserError("direction sefa: the generator has no layer of style_generator; pca needs none")
    return torch.cat([affine.weight * affine.gain for affine in linears])


class _Reached(Exception):
    """The first layer has spoken; what follows need not be computed."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows


def first_layer(model: Model, size: int, given: Values, present: Tensor) -> Tensor:
    """The matrix (F, D) of the first linear layer that sees latents: A z = y(z) - y(0). Raises UserError."""
    z = torch.cat([torch.zeros(1, size), torch.eye(size)]).to(present.device)

    def look(layer: nn.Module, inputs: object, rows: Tensor) -> None:
        if len(rows) == len(z) and not torch.equal(rows, rows[:1].expand_as(rows)):  # else of conditions
            raise _Reached(rows.flatten(1))

    layers = [layer for net in model.nets.values() for layer in net.modules()
              if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]  # fmt: skip
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        _images(model, z, given, present)
    except _Reached as reached:
        return (reached.rows[1:] - reached.rows[:1]).T
    finally:
        for hook in hooks:
            hook.remove()
    raise UserError("direction sefa: no linear layer of the generator sees its latents; pca needs none")


def pictures(model: Model, z: Tensor, given: Values, present: Tensor) -> Tensor:
    """Small pictures of latents (n, D), as rows (n, F)."""
    x = _images(model, z, given, present).float()
    height, width = (min(side, SIDE) for side in x.shape[2:])
    return F.adaptive_avg_pool2d(x, (height, width)).flatten(1)


def _images(model: Model, z: Tensor, given: Values, present: Tensor) -> Tensor:
    """Images of latents (n, D) under the same conditions and noise, in full precision."""
    conditions = {name: value[:1].expand(len(z), *value.shape[1:]) for name, value in given.items()}
    draw = Repeated(RowDraw(0, 0, "directions", range(1), present.device), len(z))
    return model.method.sample(model.nets, z, conditions, present[:1].expand(len(z)), draw, model.how)


@torch.no_grad()
def along(
    model: Model,
    directions: Sequence[DirectionRange],
    columns: int,
    given: Values,
    present: Tensor,
    draw: Draw,
    latent: Tensor | None = None,
) -> Panel:
    """Latents moved along directions from where they are, so that 0 is the sample itself.

    Of one direction, a row is a latent of its own; of several, which move one latent, a row is a direction.
    given, present: (rows, ...), of several directions of one row; draw: of as many. latent: (rows, D), or
    styles (rows, layers, D); by default drawn. Raises UserError for a direction that is not there.
    """
    if len({(direction.low, direction.high) for direction in directions}) > 1:
        raise UserError("direction: state one range for all of them, because they share columns")
    kinds = {direction.kind: suggested(model, direction.kind, given, present) for direction in directions}
    for direction in directions:
        count = len(kinds[direction.kind].steps)
        if not 1 <= direction.number <= count:
            raise UserError(f"direction {direction}: there are {count}, counted from 1")
    base = model.method.latent(draw) if latent is None else latent
    if isinstance(model.method, Styled) and base.ndim == 2:
        base = model.method.style(model.nets, base, model.how)
    if len(directions) > 1:
        base, present = base.expand(len(directions), *base.shape[1:]), present.expand(len(directions))
        given = {name: value.expand(len(directions), *value.shape[1:]) for name, value in given.items()}
        draw = Repeated(draw, len(directions))
    steps = torch.stack([kinds[direction.kind].steps[direction.number - 1] for direction in directions]).to(
        base
    )
    steps = steps[:, None] if base.ndim == 3 else steps
    places = torch.linspace(directions[0].low, directions[0].high, columns).tolist()
    images = [model.sample(base + place * steps, given, present, draw) for place in places]
    names = [
        f"{direction}: {float(kinds[direction.kind].shares[direction.number - 1]):.0%}"
        for direction in directions
    ]
    return Panel(
        torch.stack(images, dim=1),
        rows=tuple(names) if len(directions) > 1 else (),
        columns=tuple(f"{place:+.1f} σ" for place in places),
        caption="" if len(directions) > 1 else f"Direction {names[0]} of {SHARES[directions[0].kind]}.",
    )
