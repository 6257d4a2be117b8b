"""The conditions of samples as a user states them: in words, or by a file of masks or text features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safelight.config import UserError
from safelight.data.images import blamed, decode_mask, height_width, open_image, orientation, quiet
from safelight.data.listing import SUFFIXES
from safelight.data.npz import open_arrays
from safelight.data.stream import one_hot
from safelight.data.text_features import check_features
from safelight.loading.dependencies import text_features
from safelight.loading.model import Model
from safelight.samplers.generate import ConditionValue, conditions
from safelight.types import DataSpec


def from_file(name: str, path: str, spec: DataSpec, factor: int = 1) -> Tensor:
    """A condition of the data from a file: a mask (1, K, H, W), or text features (n, T).

    A mask is cropped and resized like the images trained on; a folder holds several, (n, K, H, W), in the
    order of their names. spec: of the images. factor: pixels a side that
    become one, as latents have it. Raises UserError naming the condition.
    """
    where = f"condition {name}={path}"
    size = spec.conditions[name].size
    if spec.conditions[name].kind == "mask" and Path(path).is_dir():
        files = sorted(file for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"{where}: holds no images")
        return torch.cat([from_file(name, str(file), spec, factor) for file in files])
    if not Path(path).is_file():
        raise UserError(f"{where}: there is no such file")
    if spec.conditions[name].kind == "mask":
        return _mask(where, path, size, (spec.shape[1], spec.shape[2]), factor)
    arrays = open_arrays(path)
    features = check_features(where, arrays)
    if features.shape[-1] != size:
        raise UserError(f"{where}: has {features.shape[-1]} features, the data {size}")
    return torch.from_numpy(np.array(features.reshape(-1, size), np.float32))


def _mask(where: str, path: str, classes: int, size: tuple[int, int], factor: int) -> Tensor:
    try:
        with quiet(), open(path, "rb") as file, open_image(file) as image:
            values = "soft" if classes == 1 else "auto"
            ids = decode_mask(image, size, height_width(image, orientation(image)), None, values)
    except Exception as error:
        raise UserError(f"{where}: {blamed(error, path)}") from error
    if classes == 1:
        return one_hot(torch.from_numpy(np.array(ids))[None], classes, factor)
    seen = set(np.unique(ids).tolist())
    if classes == 2 and 255 in seen and seen <= {0, 255}:  # black and white
        ids = (ids == 255).astype(np.uint8)
    if (wrong := ids[(ids >= classes) & (ids != 255)]).size:
        raise UserError(f"{where}: holds class {wrong.max()}, but the data has {classes} classes")
    return one_hot(torch.from_numpy(np.array(ids))[None], classes, factor)


def conditions_of(
    model: Model,
    stated: Mapping[str, str | float],
    count: int,
    canvas: tuple[DataSpec, DataSpec] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The conditions of `count` samples, see `generate.conditions`: given, and present (count,).

    stated: by name; a mask is a file or folder, text is words or a file of features. canvas: the data as
    pixels and as the networks see them, for images of another size. Raises UserError.
    """
    pixels, spec = canvas or (model.data.pixels, model.spec)
    values = {name: _value(model, name, str(value), pixels) for name, value in stated.items()}
    return conditions(spec, values, count, model.device, lambda: model.data.examples(count))


def _value(model: Model, name: str, value: str, pixels: DataSpec) -> ConditionValue:
    condition = model.spec.conditions.get(name)
    if condition is None or condition.kind not in ("mask", "text") or value == "none":
        return value
    if condition.kind == "text" and not value.endswith((".npy", ".npz")):
        return text_features(model.data.recipe, [value])
    return from_file(name, value, pixels, model.space.factor)
