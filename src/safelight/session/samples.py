"""Samples: images and what they were asked to be, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.render.sheet_file import encode_png
from safelight.session.watch import contact_sheet, draw_sheet
from safelight.store.durable import sweep
from safelight.types import DataSpec


@dataclass(frozen=True)
class Samples:
    """Images from a run."""

    images: NDArray[np.uint8]  # (N, H, W, C)
    given: Mapping[str, NDArray[Any]]  # by condition (N, ...)
    present: NDArray[np.bool_]  # (N,) False = unconditional
    spec: DataSpec
    how: Mapping[str, Any]  # [sample] as it was used

    def _repr_png_(self) -> bytes:
        """How a notebook shows samples: as their contact sheet."""
        return encode_png(contact_sheet(self.images, self.spec, "", self.given.get("label")))

    def save(self, out: str | Path) -> Path:
        """Write a contact sheet (.png), arrays (.npz), or one PNG each into a folder (no suffix).

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
                arrays: dict[str, Any] = {"images": self.images, "present": self.present, **self.given}
                np.savez_compressed(out, **arrays)
            else:
                out.mkdir(parents=True, exist_ok=True)
                for number, image in enumerate(self.images):
                    grey = image.shape[2] == 1
                    Image.fromarray(image[:, :, 0] if grey else image).save(out / f"{number:06d}.png")
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error
        return out


def require_place(out: Path) -> None:
    """Raises UserError where samples cannot be written there, or would lie among other files."""
    if out.suffix and out.suffix not in (".png", ".npz"):
        raise UserError(f"{out}: ends in none of .png (a sheet), .npz (arrays), nothing (a folder)")
    if out.is_dir() and (out.suffix or any(out.iterdir())):
        raise UserError(f"{out}: is a folder that holds files already; choose a new one")
