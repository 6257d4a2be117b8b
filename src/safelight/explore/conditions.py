"""The conditions of samples as a user states them: in words, or by a file of masks or text features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.images import blamed, decode_mask, height_width, open_image, orientation, quiet
from safelight.data.listing import SUFFIXES
from safelight.data.npz import open_arrays
from safelight.data.stream import conditioned, one_hot
from safelight.data.text_features import check_features
from safelight.loading.dependencies import text_features
from safelight.loading.model import Model
from safelight.samplers.generate import ConditionValue, conditions
from safelight.types import Batch, DataSpec, Values

CHECKED = 100  # masks that are looked at before anything is sampled


class MaskFiles:
    """The masks of an image file, or of a folder's files in the order of their names, read when needed.

    Each is cropped and resized like the images trained on. numbers: classes, 0..255 where there is one alone.
    """

    def __init__(self, name: str, path: str, spec: DataSpec, factor: int = 1) -> None:
        """spec: of the images. factor: pixels a side that become one. Raises UserError."""
        self.name, self.factor = name, factor
        self.classes, self.size = spec.conditions[name].size, (spec.shape[1], spec.shape[2])
        self.files = [path]
        if Path(path).is_dir():
            entries = Path(path).iterdir()
            self.files = sorted(str(file) for file in entries if file.suffix.lower() in SUFFIXES)
            if not self.files:
                raise UserError(f"condition {name}={path}: holds no images")
        for file in self.files[:CHECKED]:
            self._read(file)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Tensor) -> Tensor:
        """One-hot (b, K, H, W). Raises UserError naming the file."""
        return one_hot(torch.from_numpy(self.numbers(index.tolist())), self.classes, self.factor)

    def numbers(self, index: Sequence[int]) -> NDArray[np.uint8]:
        """(b, H, W). Raises UserError naming the file."""
        known = {file: self._read(file) for file in {self.files[row] for row in index}}
        return np.stack([known[self.files[row]] for row in index])

    def _read(self, file: str) -> NDArray[np.uint8]:
        if not Path(file).is_file():
            raise UserError(f"condition {self.name}={file}: there is no such file")
        return _mask(f"condition {self.name}={file}", file, self.classes, self.size)


def from_file(name: str, path: str, spec: DataSpec, factor: int = 1) -> Tensor:
    """A condition of the data from a file: masks (n, K, H, W), see `MaskFiles`, or text features (n, T).

    Raises UserError naming the condition.
    """
    where = f"condition {name}={path}"
    if spec.conditions[name].kind == "mask":
        masks = MaskFiles(name, path, spec, factor)
        return masks[torch.arange(len(masks))]
    if not Path(path).is_file():
        raise UserError(f"{where}: there is no such file")
    size, features = spec.conditions[name].size, check_features(where, open_arrays(path))
    if features.shape[-1] != size:
        raise UserError(f"{where}: has {features.shape[-1]} features, the data {size}")
    return torch.from_numpy(np.array(features.reshape(-1, size), np.float32))


def _mask(where: str, path: str, classes: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        with quiet(), open(path, "rb") as file, open_image(file) as image:
            values = "soft" if classes == 1 else "auto"
            ids = np.array(decode_mask(image, size, height_width(image, orientation(image)), None, values))
    except Exception as error:
        raise UserError(f"{where}: {blamed(error, path)}") from error
    seen = set(np.unique(ids).tolist())
    if classes == 2 and 255 in seen and seen <= {0, 255}:  # black and white
        ids = (ids == 255).astype(np.uint8)
    if classes > 1 and (wrong := ids[(ids >= classes) & (ids != 255)]).size:
        raise UserError(f"{where}: holds class {wrong.max()}, but the data has {classes} classes")
    return ids


class Conditions:
    """The conditions of an endless set of samples, as a user states them."""

    def __init__(
        self,
        model: Model,
        stated: Mapping[str, str | float],
        canvas: tuple[DataSpec, DataSpec] | None = None,
    ) -> None:
        """stated, canvas: as of `conditions_of`. Raises UserError."""
        self.model, self.stated = model, {name: str(value) for name, value in stated.items()}
        pixels, self.spec = canvas or (model.data.pixels, model.spec)
        self.values = {name: _value(model, name, value, pixels) for name, value in self.stated.items()}

    def of(
        self, rows: range, examples: Callable[[], Batch] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Given, and present (b,), of some samples. examples: real items to begin with that of the first."""
        real = examples or (lambda: self.model.data.stream().conditions(self._items(rows)))
        return conditions(self.spec, self.values, len(rows), self.model.device, real, rows.start)

    def words(self, rows: range, given: Values, present: Tensor) -> list[dict[str, Any]]:
        """The conditions of some samples as cells of a table: classes, attributes, texts. Masks are pictures.

        given, present: of these samples. Those that have none have empty cells.
        """
        cells: list[dict[str, Any]] = [{} for _ in rows]
        for name, condition in self.spec.conditions.items():
            if condition.kind == "mask":
                continue
            read = condition.kind == "text" and bool(present.any())  # texts, of real items or as stated
            values = self._texts(rows) if read else given[name].tolist()
            for cell, value, there in zip(cells, values, present.tolist(), strict=True):
                if condition.kind == "attributes":
                    titles = condition.names or [f"{name}{place}" for place in range(condition.size)]
                    numbers = [float(f"{number:.6g}") if there else "" for number in value]
                    cell |= dict(zip(titles, numbers, strict=True))
                elif condition.kind == "label":
                    cell[name] = (condition.names[value] if condition.names else value) if there else ""
                elif value is not None:
                    cell[name] = value if there else ""
        return cells

    def masks(self, rows: range) -> NDArray[np.uint8] | None:
        """The masks of some samples, (b, H, W) class numbers in pixels; None where there are none."""
        masks = self.values.get("mask")
        if "mask" not in self.spec.conditions or "none" in self.stated.values():
            return None
        if isinstance(masks, MaskFiles):
            return masks.numbers([row % len(masks) for row in rows])
        return np.asarray(self.model.data.stream().pack.given["mask"][self._items(rows)], np.uint8)

    def _items(self, rows: range) -> NDArray[np.int64]:
        """The real items whose conditions are those of some samples, in turn; none where there are none."""
        items = conditioned(self.model.data.stream().pack)
        return items[np.asarray(rows) % len(items)] if len(items) else items

    def _texts(self, rows: range) -> list[str | None]:
        stated = self.stated.get("text")
        if stated is not None:  # features from a file have no words
            return [None if stated.endswith((".npy", ".npz")) else stated] * len(rows)
        pack = self.model.data.stream().pack
        if pack.first is None:
            return [None] * len(rows)
        return [next(iter(pack.texts[int(item)]), None) for item in self._items(rows)]


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
    return Conditions(model, stated, canvas).of(range(count), lambda: model.data.examples(count))


def _value(model: Model, name: str, value: str, pixels: DataSpec) -> ConditionValue:
    condition = model.spec.conditions.get(name)
    if condition is None or condition.kind not in ("mask", "text") or value == "none":
        return value
    if condition.kind == "mask":
        return MaskFiles(name, value, pixels, model.space.factor)
    if not value.endswith((".npy", ".npz")):
        return text_features(model.data.recipe, [value])
    return from_file(name, value, pixels)
