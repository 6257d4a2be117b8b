"""What is looked at while a run trains: the same samples, figures and held-out losses, again and again.

Nothing here changes a weight: networks are copies in evaluation mode, randomness is keyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.explore.samples import mask_rows
from safelight.loading.dependencies import text_features
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.recipe import Recipe
from safelight.render.sheet import Picture
from safelight.render.sheet import panel as draw_panel
from safelight.render.sheet_file import save_png
from safelight.samplers.generate import ConditionValue, conditions
from safelight.store.durable import write_bytes
from safelight.types import Balances, Batch, Draws, Measures, Panel, Values


def watched_conditions(recipe: Recipe, stream: Stream) -> tuple[dict[str, Tensor], Tensor]:
    """What the fixed samples of [watch] are asked to be: given, and present (N,).

    recipe: with the files of the encoders it names, see `dependencies.used`. Raises UserError.
    """
    spec, count = stream.spec, recipe.watch.images
    choices: dict[str, ConditionValue] = {}
    if not stream.pack.present.any():
        choices = dict.fromkeys(spec.conditions, "none")
    elif (prompts := recipe.watch.prompts) and "text" in spec.conditions:
        each = max(1, count // len(prompts))
        count = each * len(prompts)
        choices["text"] = text_features(recipe, prompts).repeat_interleave(each, dim=0)
    return conditions(spec, choices, count, stream.device, lambda: examples(stream, count))


def watched_images(model: Model, conditions: tuple[Values, Tensor]) -> NDArray[np.uint8]:
    """The fixed samples of [watch]: (N, H, W, C) uint8, the same noises and conditions at every step.

    conditions: given and present (N,), those of `watched_conditions`, or others for the same noises.
    """
    return replace(model, how=model.recipe.preview).generate(*conditions, model.recipe.watch.seed)


@torch.no_grad()
def held_out_losses(model: Model) -> dict[str, float]:
    """Mean held-out values by column name of the metrics, such as "held_out/t 0.0-0.2"."""
    watch, stream = model.recipe.watch, model.data.stream()
    if not (isinstance(model.method, Measures) and watch.held_out and stream.held_out_count):
        return {}
    values = measured(model, stream.held_out(watch.held_out))
    return {f"held_out/{name}": float(value.float().mean()) for name, value in values.items()}


@torch.no_grad()
def trained_losses(model: Model) -> dict[str, float]:
    """Of networks that work against each other, what is held out measured on as many training images."""
    method, count, stream = model.method, model.recipe.watch.held_out, model.data.stream()
    if not (isinstance(method, Balances) and isinstance(method, Measures) and count):
        return {}
    values = measured(model, stream.pick(stream.pack.train[:count]))
    return {f"trained/{name}": float(value.mean()) for name, value in values.items()}


def measured(model: Model, batch: Batch) -> Values:
    """What a method measures on a batch."""
    assert isinstance(model.method, Measures)
    draw = RowDraw(model.recipe.watch.seed, 0, "held out", batch.rows, model.device)
    with model.autocast():
        return model.method.measure(model.nets, batch, draw)


@torch.no_grad()
def figures(model: Model) -> dict[str, Picture]:
    """The family's figures, on the same held-out images every time, and what it makes of their masks."""
    masks, stream = mask_rows(model), model.data.stream()
    pictures = {"masks": masks} if masks else {}
    if not (isinstance(model.method, Draws) and stream.held_out_count):
        return pictures
    batch = stream.held_out(8)
    draw = RowDraw(model.recipe.watch.seed, 0, "panels", batch.rows, model.device)
    with model.autocast():
        panels = model.method.panels(model.nets, batch, draw)
    return {**pictures, **{name: picture(panel, model.space) for name, panel in panels.items()}}


def picture(panel: Panel, space: Space) -> Picture:
    """A panel in pixels."""
    rows, wide = panel.images.shape[:2]
    pixels = space.to_pixels(panel.images.flatten(0, 1))
    return Picture(pixels.reshape(rows, wide, *pixels.shape[1:]), panel.rows, panel.columns, panel.caption)


def draw_figures(pictures: Mapping[str, Picture], folder: Path, step: int) -> None:
    """Save figures as <step>-<name>.png, their words beside them."""
    for name, figure in pictures.items():
        path = folder / f"{step:08d}-{name}.png"
        words = {"rows": figure.row_labels, "columns": figure.column_labels, "caption": figure.caption,
                 "wide": figure.images.shape[1]}  # fmt: skip
        write_bytes(path.with_suffix(".json"), json.dumps(words).encode())
        save_png(draw_panel(figure.images, figure.row_labels, figure.column_labels, figure.caption), path)


def is_due(step: int, recipe: Recipe, images: int, steps: int) -> bool:
    """Whether a sheet is due when `step` of `steps` steps are done; images: in the training set."""
    epochs = (round(epoch * images / recipe.train.batch_size) for epoch in recipe.watch.epochs)
    return step % recipe.watch.every == 0 or step == steps or step in epochs
