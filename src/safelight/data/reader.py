"""Decoding items that are files: an image, and its mask where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from safelight.config import UserError
from safelight.data.image import decode, decode_mask, height_width, open_image, orientation
from safelight.data.source import BadItem, Pixels
from safelight.data.tree import Tree, tree_of
from safelight.terminal import plain


@dataclass(frozen=True, eq=False)
class FileReader:
    """Reads items out of a tree; told of in plain values, so that another process can do so too."""

    tree: Tree
    files: Sequence[str]
    masks: Sequence[str | None]  # by item; empty where none has one
    size: tuple[int, int]  # (H, W) to make
    like: str | None  # the image whose size all must have; None: they are cropped and resized
    channels: int  # 1, 3, or 0 for what each image has
    mask_classes: int | None = None

    def read(self, index: int) -> Pixels:
        """The item decoded. Raises BadItem, or UserError where the disk is at fault or sizes differ."""
        name = self.files[index]
        try:
            with self.tree.open(name) as file, open_image(file) as image:
                turned = orientation(image)
                whole = height_width(image, turned)
                if self.like is not None and whole != self.size:
                    raise self._differ(name, whole)
                pixels = decode(image, turned, self.size, self.channels)
        except Exception as error:
            raise blamed(error, name) from error
        return Pixels(pixels, self.mask(index, self.size, whole))

    def mask(self, index: int, size: tuple[int, int], whole: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The item's mask at a size (H, W), None where it has none; whole: the (H, W) of its image.

        Raises BadItem or UserError.
        """
        name = self.masks[index] if self.masks else None
        if name is None:
            return None
        try:
            with self.tree.open(name) as file, open_image(file) as image:
                return decode_mask(image, size, whole, self.mask_classes)
        except Exception as error:
            raise blamed(error, name, "its mask: ") from error

    def describe(self) -> dict[str, Any]:
        """Plain values, from which `reader_of` makes it again."""
        return {**vars(self), "tree": self.tree.describe()}

    def _differ(self, name: str, whole: tuple[int, int]) -> UserError:
        height, width = self.size
        return UserError(
            f"data.size: is needed, as images differ: {plain(self.like or '')} is {height}x{width} "
            f"(height x width), {plain(name)} is {whole[0]}x{whole[1]}; "
            f"for example data.size={min(*self.size, *whole)}"
        )


def reader_of(description: Mapping[str, Any]) -> FileReader:
    """The reader that `describe` told of."""
    size = (int(description["size"][0]), int(description["size"][1]))
    return FileReader(**{**description, "tree": tree_of(description["tree"]), "size": size})


def blamed(error: Exception, name: str, what: str = "") -> Exception:
    """What a decoder raised, told apart: BadItem where the file is at fault, UserError where the disk is."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, PermissionError):
        return UserError(f"{plain(name)}: cannot be read ({error.strerror})")
    if isinstance(error, UnidentifiedImageError):
        reason = "not an image"
    elif isinstance(error, Image.DecompressionBombError):
        reason = "over 178 million pixels, a decompression bomb or to be made smaller"
    elif isinstance(error, PermissionError):
        reason = "permission denied"
    else:  # decoders raise anything at all for broken content
        reason = plain(str(error).partition("\n")[0]) or type(error).__name__
    return BadItem(f"{what}{reason}")
