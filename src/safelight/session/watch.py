"""What is looked at while a run trains: the same samples, figures and held-out losses, again and again.

Nothing here changes a weight: networks are copies in evaluation mode, randomness is keyed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.draw import RowDraw
from safelight.engine.state import State
from safelight.generate import Wanted, conditions, generate
from safelight.recipes.recipe import Recipe
from safelight.render.facts import Picture
from safelight.render.masks import coloured
from safelight.render.sheet import Images, panel, sheet
from safelight.render.sheet_file import save_png
from safelight.session.encoders import text_features
from safelight.store.durable import write_bytes
from safelight.types import DataSpec, Draws, Measures, Method, Panel, Values

MASKS = 8  # items of the rows of image, mask and sample

Autocast = Callable[[], AbstractContextManager[object]]


def evaluated(method: Method, state: State) -> dict[str, nn.Module]:
    """The networks that samples use: averages and frozen ones, all in evaluation mode."""
    return {**{name: state.nets[name] for name in method.frozen}, **state.averages.networks}


def watched_conditions(recipe: Recipe, stream: Stream) -> tuple[dict[str, Tensor], Tensor]:
    """What the fixed samples of [watch] are asked to be: given, and present (N,).

    recipe: with the files of the encoders it names, see `encoders.used`. Raises UserError.
    """
    spec, count = stream.spec, recipe.watch.images
    wanted: dict[str, Wanted] = {}
    if not stream.pack.present.any():
        wanted = dict.fromkeys(spec.conditions, "none")
    elif (prompts := recipe.watch.prompts) and "text" in spec.conditions:
        each = max(1, count // len(prompts))
        count = each * len(prompts)
        wanted["text"] = text_features(recipe, prompts).repeat_interleave(each, dim=0)
    return conditions(spec, wanted, count, stream.device, lambda: examples(stream, count))


def watched_images(
    method: Method,
    nets: Mapping[str, nn.Module],
    recipe: Recipe,
    stream: Stream,
    autocast: Autocast,
    asked: tuple[Values, Tensor],
) -> NDArray[np.uint8]:
    """The fixed samples of [watch]: (N, H, W, C) uint8, the same noises and conditions at every step.

    asked: given and present (N,), those of `watched_conditions`, or others for the same noises.
    """
    given, present = asked
    x = generate(method, nets, recipe.preview, given, present, recipe.watch.seed, autocast)
    return stream.space.to_pixels(x)


def columns(classes: int, count: int) -> int | None:
    """Columns of a sheet: one for each class where that makes whole rows; None for as square as can be."""
    return classes if 1 < classes <= 20 and count >= classes else None


def contact_sheet(
    images: Images,
    spec: DataSpec,
    caption: str,
    labels: NDArray[np.int64] | None = None,
    prompts: Sequence[str] = (),
) -> Image.Image:
    """A contact sheet: a column for each class where the samples take the classes in turn.

    labels: (N,) the classes asked for; by default in turn, where the data have nothing but classes.
    prompts: texts, each of as many images one after another: a row for each.
    """
    if prompts and "text" in spec.conditions:
        return sheet(images, len(images) // len(prompts), row_labels=prompts, caption=caption)
    alone = set(spec.conditions) == {"label"}
    in_turn = np.arange(len(images)) % max(spec.classes, 1)
    turns = alone if labels is None else np.array_equal(labels, in_turn)
    wide = columns(spec.classes, len(images)) if turns else None
    names = spec.conditions["label"].names if wide else ()
    return sheet(images, wide, column_labels=names, caption=caption)


def draw_sheet(
    images: Images,
    spec: DataSpec,
    caption: str,
    path: Path,
    labels: NDArray[np.int64] | None = None,
    prompts: Sequence[str] = (),
) -> None:
    """Save a `contact_sheet` as PNG."""
    save_png(contact_sheet(images, spec, caption, labels, prompts), path)


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
    found = {"masks": own_masks} if own_masks else {}
    if not (isinstance(method, Draws) and stream.held_out_count):
        return found
    batch = stream.held_out(8)
    draw = RowDraw(recipe.watch.seed, 0, "panels", batch.rows, stream.device)
    with autocast():
        panels = method.panels(nets, batch, draw)
    return {**found, **{name: picture(own, stream.space) for name, own in panels.items()}}


def mask_rows(
    method: Method, nets: Mapping[str, nn.Module], recipe: Recipe, stream: Stream, autocast: Autocast
) -> Picture | None:
    """Held-out images, their masks, and samples that follow those, in three rows; None without masks."""
    pack = stream.pack
    items = pack.held_out[pack.present[pack.held_out]][:MASKS]
    if "mask" not in pack.given or not len(items) or not getattr(method, "draws", True):
        return None
    real = stream.pick(items)
    x = generate(method, nets, recipe.preview, real.given, real.present, recipe.watch.seed, autocast)
    samples, images = stream.space.to_pixels(x), np.asarray(pack.images[items])
    masks = coloured(np.asarray(pack.given["mask"][items]), pack.described["mask"][1])
    rows = [np.broadcast_to(own, masks.shape) for own in (images, masks, samples)]
    caption = "Held-out images, their masks, and what those are made into."
    return Picture(np.stack(rows), ("image", "mask", "sample"), (), caption)


def picture(own: Panel, space: Space) -> Picture:
    """A panel in pixels."""
    rows, wide = own.images.shape[:2]
    pixels = space.to_pixels(own.images.flatten(0, 1))
    return Picture(pixels.reshape(rows, wide, *pixels.shape[1:]), own.rows, own.columns, own.caption)


def draw_figures(pictures: Mapping[str, Picture], folder: Path, step: int) -> None:
    """Save figures as <step>-<name>.png, their words beside them."""
    for name, own in pictures.items():
        path = folder / f"{step:08d}-{name}.png"
        words = {"rows": own.row_labels, "columns": own.column_labels, "caption": own.caption,
                 "wide": own.images.shape[1]}  # fmt: skip
        write_bytes(path.with_suffix(".json"), json.dumps(words).encode())
        save_png(panel(own.images, own.row_labels, own.column_labels, own.caption), path)


def is_due(step: int, recipe: Recipe, images: int, steps: int) -> bool:
    """Whether a sheet is due when `step` of `steps` steps are done; images: in the training set."""
    epochs = (round(epoch * images / recipe.train.batch_size) for epoch in recipe.watch.epochs)
    return step % recipe.watch.every == 0 or step == steps or step in epochs
