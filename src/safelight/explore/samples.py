"""Samples: images and what they were asked to be, and how they are saved."""

from __future__ import annotations

import io
import shutil
import warnings
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from safelight.config import UserError
from safelight.data.images import straight
from safelight.loading.dependencies import products_of, used
from safelight.loading.model import Model
from safelight.loading.recorded import recipe_of, spec_of
from safelight.randomness import RowDraw
from safelight.render.sheet import Images, Picture, coloured, sheet
from safelight.render.sheet_file import encode_png, save_png
from safelight.store.directory import RunDirectory
from safelight.store.durable import sweep, write_bytes
from safelight.types import DataSpec


@dataclass(frozen=True, repr=False)
class Samples:
    """Images from a run."""

    images: NDArray[np.uint8]  # (N, H, W, C)
    given: Mapping[str, NDArray[Any]]  # by condition (N, ...)
    present: NDArray[np.bool_]  # (N,) False = unconditional
    spec: DataSpec
    how: Mapping[str, Any]  # [sample] as it was used
    cells: Sequence[Mapping[str, Any]] = ()  # by sample: its conditions in words, but for masks
    masks: NDArray[np.uint8] | None = None  # (N, H, W) as pixels
    background: str = "#ffffff"  # under transparent ones

    def __repr__(self) -> str:
        count, height, width = self.images.shape[:3]
        given = ", ".join(self.given) if self.present.any() else "nothing"
        return f"<Samples: {count} of {width}x{height}, given {given or 'nothing'}>"

    def _repr_html_(self) -> str:
        """How a notebook shows samples: their contact sheet, and how they were drawn."""
        data = b64encode(self._repr_png_()).decode()
        how = ", ".join(f"{name}={value}" for name, value in self.how.items() if value not in (None, ""))
        words = escape(f"{repr(self)[1:-1]}; {how}")
        return f'<img alt="{words}" src="data:image/png;base64,{data}"><p><small>{words}</small></p>'

    def _repr_png_(self) -> bytes:
        """How a notebook shows samples: as their contact sheet."""
        return encode_png(contact_sheet(self.images, self.spec, "", self.given.get("label")))

    def save(self, out: str | Path) -> Path:
        """Write a contact sheet (.png), arrays (.npz), or one PNG each into a folder (no suffix) or a .tar.

        The .npz holds images (N, H, W, C) uint8, present (N,) and an array for each condition.
        Raises UserError.
        """
        out = Path(out)
        require_place(out)
        try:
            if out.suffix == ".png":
                sweep(out.parent, name=out.name)
                draw_sheet(self.images, self.spec, "", out, self.given.get("label"))
            elif out.suffix == ".npz":
                arrays: dict[str, Any] = {
                    "images": straight(self.images, self.background),
                    "present": self.present,
                    **self.given,
                }
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **arrays)
                sweep(out.parent, name=out.name)
                write_bytes(out, buffer.getvalue())
            else:
                from safelight.explore.output import Output

                shutil.rmtree(out.with_name(f"{out.name}.part"), ignore_errors=True)
                output = Output(out, {"sample": dict(self.how)})
                with output.open():
                    output.add(self)
                output.finish()
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error
        return out


def require_place(out: Path) -> None:
    """Raises UserError where samples cannot be written there, or would lie among other files."""
    if out.suffix and out.suffix not in (".png", ".npz", ".tar"):
        zipped = "; zip the folder when it is whole" if out.suffix == ".zip" else ""  # its index comes last
        raise UserError(f"{out}: unknown output type; use .png, .npz, .tar or a folder{zipped}")
    if out.suffix == ".tar" and out.is_file():
        raise UserError(f"{out}: exists already; choose a new name")
    if out.is_dir() and (out.suffix or any(out.iterdir())):
        raise UserError(f"{out}: is a folder that holds files already; choose a new one")


def shared_seed(directory: RunDirectory, other: RunDirectory) -> int:
    """The seed of another run's sheets: samples of it start, row by row, from the noise of theirs.

    No networks are read. Raises UserError where the noise of this run has another shape.
    """
    shapes = [" x ".join(map(str, _noise(run).shape[1:])) for run in (other, directory)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"same noise as {other.name}: it starts from {shapes[0]} numbers, {directory.name} from "
            f"{shapes[1]}; name a run of the same size and kind"
        )
    return recipe_of(other).watch.seed


def _noise(directory: RunDirectory) -> Tensor:
    """The starting noise of a sample of a run, (1, ...)."""
    method = used(recipe_of(directory), products_of(directory)).method()
    with torch.device("meta"), warnings.catch_warnings(), suppress(RuntimeError):  # one that reads values
        warnings.simplefilter("ignore")  # weights that would be read from files
        method.networks(spec_of(directory))  # which settles its size
    return method.latent(RowDraw(0, 0, "sample", range(1)))


MASKS = 8  # items of the rows of image, mask and sample


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


def mask_rows(model: Model) -> Picture | None:
    """Held-out images, their masks, and samples that follow those, in three rows; None without masks."""
    stream = model.data.stream()
    pack = stream.pack
    items = pack.held_out[pack.present[pack.held_out]][:MASKS]
    if "mask" not in pack.given or not len(items) or not getattr(model.method, "draws", True):
        return None
    real, images = stream.pick(items), np.asarray(pack.images[items])
    preview = replace(model, how=model.recipe.preview)
    samples = preview.generate(real.given, real.present, model.recipe.watch.seed)
    masks = coloured(pack.mask_numbers(items), pack.mask_classes)
    rows = [np.broadcast_to(row[..., :3], masks.shape) for row in (images, masks, samples)]
    caption = "Held-out images, their masks, and samples of those masks."
    return Picture(np.stack(rows), ("image", "mask", "sample"), (), caption)
