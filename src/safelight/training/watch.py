"""What is looked at while a run trains: the same samples, figures and held-out losses, again and again.

Nothing here changes a weight: networks are copies in evaluation mode, randomness is keyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.explore.samples import mask_rows
from safelight.loading.dependencies import text_features
from safelight.randomness import RowDraw
from safelight.recipe import Recipe
from safelight.render.sheet import Picture, panel
from safelight.render.sheet_file import save_png
from safelight.samplers.generate import Wanted, conditions, generate
from safelight.store.durable import write_bytes
from safelight.types import Autocast, Draws, Measures, Method, Panel, Values


def watched_conditions(recipe: Recipe, stream: Stream) -> tuple[dict[str, Tensor], Tensor]:
    """What the fixed samples of [watch] are asked to be: given, and present (N,).

    recipe: with the files of the encoders it names, see `dependencies.used`. Raises UserError.
    """
    spec, count = stream.spec, recipe.watch.images
    choices: dict[str, Wanted] = {}
    if not stream.pack.present.any():
        choices = dict.fromkeys(spec.conditions, "none")
    elif (prompts := recipe.watch.prompts) and "text" in spec.conditions:
        each = max(1, count // len(prompts))
        count = each * len(prompts)
        choices["text"] = text_features(recipe, prompts).repeat_interleave(each, dim=0)
    return conditions(spec, choices, count, stream.device, lambda: examples(stream, count))


def watched_images(
    method: Method,
    nets: Mapping[str, nn.Module],
    recipe: Recipe,
    stream: Stream,
    autocast: Autocast,
    wanted: tuple[Values, Tensor],
) -> NDArray[np.uint8]:
    """The fixed samples of [watch]: (N, H, W, C) uint8, the same noises and conditions at every step.

    asked: given and present (N,), those of `watched_conditions`, or others for the same noises.
    """
    given, present = wanted
    x = generate(method, nets, recipe.preview, given, present, recipe.watch.seed, autocast)
    return stream.space.to_pixels(x)


@torch.no_grad()
def held_out_losses(
    method: Method, nets: Mapping[str, nn.Module], recipe: Recipe, stream: Stream, autocast: Autocast
) -> dict[str, float]:
    """Mean held-out values by column name of the metrics, such as "held_out/t 0.0-0.2"."""
    if not (isinstance(method, Measures) and recipe.watch.held_out and stream.held_out_count):
        return {}
    batch = stream.held_out(recipe.watch.held_out)
    draw = RowDraw(recipe.watch.seed, 0, "held out", batch.rows, stream.device)
    with autocast():
        values = method.measure(nets, batch, draw)
    return {f"held_out/{name}": float(value.float().mean()) for name, value in values.items()}


@torch.no_grad()
def figures(
    method: Method, nets: Mapping[str, nn.Module], recipe: Recipe, stream: Stream, autocast: Autocast
) -> dict[str, Picture]:
    """The family's own figures, on the same held-out images every time, and what it makes of their masks."""
    own_masks = mask_rows(method, nets, recipe, stream, autocast)
    pictures = {"masks": own_masks} if own_masks else {}
    if not (isinstance(method, Draws) and stream.held_out_count):
        return pictures
    batch = stream.held_out(8)
    draw = RowDraw(recipe.watch.seed, 0, "panels", batch.rows, stream.device)
    with autocast():
        panels = method.panels(nets, batch, draw)
    return {**pictures, **{name: picture(drawn, stream.space) for name, drawn in panels.items()}}


def picture(drawn: Panel, space: Space) -> Picture:
    """A panel in pixels."""
    rows, wide = drawn.images.shape[:2]
    pixels = space.to_pixels(drawn.images.flatten(0, 1))
    return Picture(pixels.reshape(rows, wide, *pixels.shape[1:]), drawn.rows, drawn.columns, drawn.caption)


def draw_figures(pictures: Mapping[str, Picture], folder: Path, step: int) -> None:
    """Save figures as <step>-<name>.png, their words beside them."""
    for name, figure in pictures.items():
        path = folder / f"{step:08d}-{name}.png"
        words = {"rows": figure.row_labels, "columns": figure.column_labels, "caption": figure.caption,
                 "wide": figure.images.shape[1]}  # fmt: skip
        write_bytes(path.with_suffix(".json"), json.dumps(words).encode())
        save_png(panel(figure.images, figure.row_labels, figure.column_labels, figure.caption), path)


def is_due(step: int, recipe: Recipe, images: int, steps: int) -> bool:
    """Whether a sheet is due when `step` of `steps` steps are done; images: in the training set."""
    epochs = (round(epoch * images / recipe.train.batch_size) for epoch in recipe.watch.epochs)
    return step % recipe.watch.every == 0 or step == steps or step in epochs
