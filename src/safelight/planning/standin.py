"""Stand-ins, so that a recipe can be planned without its data, or without the autoencoder it needs first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.data.space import Codec, Space
from safelight.loading.codecs import KEY
from safelight.loading.recorded import recipe_of
from safelight.recipe import Recipe
from safelight.store.directory import find
from safelight.training.stages import stage_of
from safelight.types import DataSpec

IMAGES = 16
DIFFUSION = (4, 8)  # channels and factor of Stable Diffusion's autoencoder, which most latents come from


def needs_data(stated: dict[str, Any]) -> bool:
    """Whether a recipe's [data] names a kind of data that needs a path, and no path."""
    section = stated.get("data", {})
    return section.get("source") in ("folder", "idx", "arrays", "hub") and not section.get("path")


def pack_of(data: Data) -> Pack:
    """Random images of the size that [data] states, with masks where it counts their classes.

    Raises UserError where it states no size.
    """
    if data.height_width is None:
        raise UserError("data.size: is not stated; plan with data.path, or state the size of the images")
    height, width = data.height_width
    random = np.random.Generator(np.random.Philox(key=1))
    given: dict[str, NDArray[Any]] = {}
    described: dict[str, tuple[Any, int, tuple[str, ...]]] = {}
    if data.mask_classes:
        given["mask"] = random.integers(0, data.mask_classes, (IMAGES, height, width), np.uint8)
        described["mask"] = ("mask", data.mask_classes, ())
    everything = np.arange(IMAGES)
    return Pack(
        folder=Path(),
        name="a stand-in",
        fingerprint="",
        images=random.integers(0, 256, (IMAGES, height, width, data.channels or 3), np.uint8),
        given=given,
        covered={name: np.ones(IMAGES, bool) for name in given},
        first=None,
        train=everything,
        held_out=everything[:0],
        described=described,
        texts=(),
        bad=(),
    )


def space_of(recipe: Recipe, pack: Pack, runs: Path) -> tuple[Space, str]:
    """A space of latents of the right shape, without an autoencoder, and what it rests on in words."""
    channels, factor, source = _shape(recipe, pack, runs)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        small = torch.nn.functional.avg_pool2d(x, factor).mean(1, keepdim=True).repeat(1, channels, 1, 1)
        return small, torch.ones_like(small)

    def decode(z: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(z[:, :1], scale_factor=factor).repeat(
            1, pack.images.shape[3], 1, 1
        )

    codec = Codec("a stand-in", "", channels, factor, encode, decode)
    return Space(codec, (0.0,) * channels, (1.0,) * channels), source


def _shape(recipe: Recipe, pack: Pack, runs: Path) -> tuple[int, int, str]:
    """(channels, factor, where they are from) of the latents."""
    assert recipe.data.latents is not None
    reference = recipe.data.latents.autoencoder
    kind, _, name = reference.partition(":")
    if kind in ("recipe", "run"):
        stage = stage_of(name, recipe)[0] if kind == "recipe" else recipe_of(find(name, runs))
        return (*_of_recipe(stage, pack), f"the shape of {reference}")
    try:
        folder = Path(reference) / "vae" if (Path(reference) / "vae").is_dir() else Path(reference)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        factor = 2 ** (len(config["block_out_channels"]) - 1)
        return int(config["latent_channels"]), factor, f"the shape of {reference}"
    except (OSError, ValueError, LookupError, TypeError):
        channels, factor = DIFFUSION
        shape = f"{channels} channels, {factor} times smaller, as Stable Diffusion's"
        return channels, factor, f"{shape}: {reference} is not here"


def _of_recipe(stage: Recipe, pack: Pack) -> tuple[int, int]:
    spec = pack.spec
    with torch.device("meta"):
        method: Any = stage.method()
        method.networks(DataSpec(spec.shape, spec.conditions))
    shape: tuple[int, ...] = getattr(method, "latent_shape", ())
    if len(shape) != 3:
        raise UserError(f"{KEY}: {stage.name} has no latents with height and width")
    return int(shape[0]), spec.shape[1] // int(shape[1])
