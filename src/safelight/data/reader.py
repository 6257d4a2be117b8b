"""Decoding items that are files: an image, and its mask where it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from safelight.config import UserError
from safelight.data.image import decode, decode_mask, height_width, opened, orientation
from safelight.data.source import BadItem, Pixels, shown
from safelight.data.tree import Tree, tree_of


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
        with blaming(name), self.tree.open(name) as file, opened(file) as image:
            turned = orientation(image)
            whole = height_width(image, turned)
            if self.like is not None and whole != self.size:
                raise self._differ(name, whole)
            pixels = decode(image, turned, self.size, self.channels)
        return Pixels(pixels, self.mask(index, self.size, whole))

    def mask(self, index: int, size: tuple[int, int], whole: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The item's mask at a size (H, W), None where it has none; whole: the (H, W) of its image.

        Raises BadItem or UserError.
        """
        name = self.masks[index] if self.masks else None
        if name is None:
            return None
        with blaming(name, "its mask: "), self.tree.open(name) as file, opened(file) as image:
            return decode_mask(image, size, whole, self.mask_classes)

    def describe(self) -> dict[str, Any]:
        """Plain values, from which `reader_of` makes it again."""
        return {**vars(self), "tree": self.tree.describe()}

    def _differ(self, name: str, whole: tuple[int, int]) -> UserError:
        height, width = self.size
        return UserError(
            f"data.size: is needed, as images differ: {shown(self.like or '')} is {height}x{width} "
            f"(height x width), {shown(name)} is {whole[0]}x{whole[1]}; "
            f"for example data.size={min(*self.size, *whole)}"
        )


def reader_of(description: Mapping[str, Any]) -> FileReader:
    """The reader that `describe` told of."""
    size = (int(description["size"][0]), int(description["size"][1]))
    return FileReader(**{**description, "tree": tree_of(description["tree"]), "size": size})


@contextmanager
def blaming(name: str, what: str = "") -> Iterator[None]:
    """What decoders raise, told apart: BadItem where the file is at fault, UserError where the disk is."""
    try:
        yield
    except UserError:
        raise
    except BadItem as error:
        raise BadItem(f"{what}{error}") from error
    except UnidentifiedImageError as error:
        raise BadItem(f"{what}not an image") from error
    except Image.DecompressionBombError as error:
        raise BadItem(f"{what}over 178 million pixels, a decompression bomb or to be made smaller") from error
    except PermissionError as error:
        raise BadItem(f"{what}permission denied") from error
    except Exception as error:  # decoders raise anything at all for broken content
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the content
            raise UserError(f"{shown(name)}: cannot be read ({error.strerror})") from error
        raise BadItem(f"{what}{shown(str(error).partition(chr(10))[0]) or type(error).__name__}") from error
