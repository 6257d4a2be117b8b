"""Image files to uint8 arrays of one size: rotation, modes, profiles, transparency, size; masks alongside.

Of an animation the first frame is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from safelight.config import UserError
from safelight.data.fitting import DETAIL, Fitting, to_srgb
from safelight.data.listing import missing_package
from safelight.data.masks import class_numbers
from safelight.data.source import BadItem, LeftOut, Pixels
from safelight.data.svg import is_svg, open_svg
from safelight.data.tree import Tree, describe, tree_of
from safelight.terminal import plain

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "HEIF", "JXL")
SNIFFED = 1024  # bytes of a file that say whether it is SVG
MAX_PIXELS = 178_956_970  # half a gigabyte as RGB; Pillow's own limit
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
EXIF = frozenset(("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"))  # where Pillow puts it
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PLAIN = Fitting()
ASPECT = 0.02  # how far, relatively, a mask's proportions may be from its image's


def open_image(file: IO[bytes]) -> Image.Image:
    """An image file by its content, whatever its name says; only its header is read yet.

    Only the formats above: Pillow would hand a PostScript file to a program. Raises DecompressionBombError
    for one that would fill the memory, and whatever else Pillow raises for a broken file.
    """
    start = file.read(SNIFFED)
    file.seek(0)
    if is_svg(start) and not missing_package(".svg"):
        return open_svg(file)
    image = Image.open(file, formats=_formats())
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    return image


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings of odd files, as it either makes pixels of them or raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _formats() -> tuple[str, ...]:
    """The formats above that this Pillow was built with, or a package adds, in every process that decodes."""
    Image.init()
    if not missing_package(".heic"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    if not missing_package(".jxl"):
        import pillow_jxl  # noqa: F401 it registers itself
    return tuple(name for name in FORMATS if name in Image.OPEN)


def orientation(image: Image.Image, loaded: bool = True) -> int:
    """EXIF orientation, 1 to 8; 1 where the EXIF data are damaged, as the pixels may be whole.

    loaded: read the pixels of a PNG for it, behind which it may stand.
    """
    if image.format == "PNG" and loaded:
        image.load()
    if image.format != "TIFF" and EXIF.isdisjoint(image.info):
        return 1  # most images: Pillow takes as long to answer as to open the file
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def height_width(image: Image.Image, turned: int) -> tuple[int, int]:
    """The size of an image as it is to be seen, (H, W); turned: its orientation."""
    return (image.width, image.height) if turned in SIDEWAYS else (image.height, image.width)


def decode(
    image: Image.Image, turned: int, size: tuple[int, int], channels: int, how: Fitting = PLAIN
) -> NDArray[np.uint8]:
    """An opened image as a picture (H, W, C), upright, brought to a size as `how` says.

    turned: its orientation. channels: 1, 3, 4 (see `fit`), or 0 for what the image has.
    Raises BadItem for pixels without a known white.
    """
    return decode_placed(image, turned, size, channels, how)[0]


def decode_placed(
    image: Image.Image, turned: int, size: tuple[int, int], channels: int, how: Fitting
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """`decode`, and where a crop lies, for its mask."""
    longest = DETAIL * max(size)
    image.draft(None, (longest, longest))  # JPEG only: decodes at 1/2, 1/4 or 1/8, a multiple faster
    image = to_srgb(image) if how.profiles else image
    alpha = alpha_of(image) if channels == 4 else None
    image = eight_bits(image, how.background, how.white)
    if turned in UPRIGHT:
        image = image.transpose(UPRIGHT[turned])
        alpha = alpha.transpose(UPRIGHT[turned]) if alpha else None
    place = how.place(image, size)
    return fit(image, (*size, channels or len(image.getbands())), how, place, alpha), place


def decode_mask(
    image: Image.Image, size: tuple[int, int], whole: tuple[int, int], classes: int | None,
    values: str = "auto", colours: Sequence[str] = (), how: Fitting = PLAIN,
    place: tuple[float, float] = (0.5, 0.5),
) -> NDArray[np.uint8]:  # fmt: skip
    """An opened mask as class numbers (H, W), fitted like its image, nearest neighbour; soft ones smoothly.

    whole: the (H, W) of its image before that. values, colours: see `class_numbers`. place: of its image's
    crop. What is padded is of class 0.
    Raises BadItem where it does not go with the image, holds colours, or a class beyond `classes`.
    """
    turned = orientation(image)
    ids = class_numbers(image, values, colours)
    if turned in UPRIGHT:
        ids = ids.transpose(UPRIGHT[turned])
    if abs(ids.height * whole[1] - ids.width * whole[0]) > ASPECT * ids.height * whole[1]:
        raise BadItem(f"is {ids.height}x{ids.width} (height x width), but the image {whole[0]}x{whole[1]}")
    if values == "soft":
        return np.asarray(how.placed(ids, size, Image.Resampling.BOX, place))
    numbers = np.asarray(how.placed(ids, size, Image.Resampling.NEAREST, place))
    if classes is not None and ((numbers >= classes) & (numbers != 255)).any():
        raise BadItem(f"holds class {numbers[numbers != 255].max()}; data.mask_classes is {classes}")
    return numbers


def fit(
    image: Image.Image, shape: tuple[int, int, int], how: Fitting = PLAIN,
    place: tuple[float, float] = (0.5, 0.5), alpha: Image.Image | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """An image of mode L or RGB at `shape` (H, W, C); by default cropped about its centre and resized.

    Of four channels the first three are the colours over the background, the last is alpha, 255 where it is
    None. So colours under alpha 0 are the background's, weights are alpha's (they are premultiplied, plus
    what shows through), resizing both is resizing premultiplied colours, and the first three are what shows.
    """
    if shape[2] == 4:
        over = fit(image, (*shape[:2], 3), how, place)
        opaque = Image.new("L", image.size, 255) if alpha is None else alpha
        return np.dstack([over, np.asarray(how.placed(opaque, shape[:2], Image.Resampling.LANCZOS, place))])
    mode = "L" if shape[2] == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    around = (
        how.colour if mode == "RGB" else Image.new("RGB", (1, 1), how.colour).convert("L").getpixel((0, 0))
    )
    return np.asarray(
        how.placed(image, shape[:2], Image.Resampling.LANCZOS, place, around)  # type: ignore[arg-type]
    ).reshape(shape)


def alpha_of(image: Image.Image) -> Image.Image | None:
    """Its alpha in mode L; None where it is opaque."""
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def straight(pixels: NDArray[np.uint8], background: str) -> NDArray[np.uint8]:
    """(..., 4) colours over the background c, and alpha a, as colours of their kind: F of c = aF + (1 - a)B.

    Rounded, so that F laid on B again is c exactly. Of alpha 0 the background's. Other channels: as they are.
    """
    if pixels.shape[-1] != 4:
        return pixels
    a, under = pixels[..., 3:].astype(np.int64), np.array(Fitting(background=background).colour, np.int64)
    over = 255 * pixels[..., :3].astype(np.int64) - (255 - a) * under
    colours = np.where(a > 0, (2 * over + a) // np.maximum(2 * a, 1), under).clip(0, 255).astype(np.uint8)
    return np.concatenate([colours, pixels[..., 3:]], -1)


def eight_bits(image: Image.Image, background: str = "#ffffff", white: float | None = None) -> Image.Image:
    """The image in mode L or RGB; 16-bit greys are scaled to 255, transparency is laid on the background.

    white: the grey of more than 8 bits, or floating-point one, that becomes 255.
    """
    grey = image.mode in GREY_MODES
    if white is not None and is_deep(image):
        values = np.nan_to_num(np.asarray(image, np.float64)) * (255 / white)
        return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))
    if image.mode == "F":
        raise BadItem("floating-point pixels have no known white; state data.white")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadItem("pixels beyond 16 bits have no known white; state data.white")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image if image.mode in ("L", "RGB") else image.convert("L" if grey else "RGB")


def is_deep(image: Image.Image) -> bool:
    """Whether its greys are beyond 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


@dataclass(frozen=True, eq=False)
class FileReader:
    """Reads items from the files of a tree: an image, and its mask where it has one."""

    tree: Tree
    files: Sequence[str]
    masks: Sequence[str | None]  # by item; empty where none has one
    size: tuple[int, int]  # (H, W) to make
    like: str | None  # the image whose size all must have; None: they are cropped and resized
    channels: int  # 1, 3, or 0 for what each image has
    mask_classes: int | None = None
    mask_values: str = "auto"
    mask_colours: Sequence[str] = ()
    how: Fitting = PLAIN

    def read(self, index: int) -> Pixels:
        """The item decoded. Raises BadItem, or UserError where the disk is at fault or sizes differ."""
        name = self.files[index]
        try:
            with self.tree.open(name) as file, open_image(file) as image:
                turned = orientation(image)
                whole = height_width(image, turned)
                if self.like is not None and whole != self.size:
                    raise self._differ(name, whole)
                if min(whole) < self.how.smallest:
                    raise LeftOut(f"is {whole[0]}x{whole[1]}, below data.smallest={self.how.smallest}")
                pixels, place = decode_placed(image, turned, self.size, self.channels, self.how)
        except LeftOut:
            raise
        except Exception as error:
            raise blamed(error, name) from error
        return Pixels(pixels, self.mask(index, self.size, whole, place), whole)

    def mask(
        self, index: int, size: tuple[int, int], whole: tuple[int, int],
        place: tuple[float, float] = (0.5, 0.5),
    ) -> NDArray[np.uint8] | None:  # fmt: skip
        """The item's mask at a size (H, W), None where it has none; whole: the (H, W) of its image.

        place: of the image's crop.

        Raises BadItem or UserError.
        """
        name = self.masks[index] if self.masks else None
        if name is None:
            return None
        try:
            with self.tree.open(name) as file, open_image(file) as image:
                return decode_mask(
                    image,
                    size,
                    whole,
                    self.mask_classes,
                    self.mask_values,
                    self.mask_colours,
                    self.how,
                    place,
                )
        except Exception as error:
            raise blamed(error, name, "its mask: ") from error

    def describe(self) -> dict[str, Any]:
        """Plain values, from which `reader_of` makes it again in another process."""
        return {**vars(self), "tree": describe(self.tree), "how": asdict(self.how)}

    def _differ(self, name: str, whole: tuple[int, int]) -> UserError:
        height, width = self.size
        return UserError(
            f"data.size: is needed, as images differ: {plain(self.like or '')} is {height}x{width} "
            f"(height x width), {plain(name)} is {whole[0]}x{whole[1]}; "
            f"for example data.size={min(*self.size, *whole)}"
        )


def reader_of(description: Mapping[str, Any]) -> FileReader:
    """The reader of a description."""
    size = (int(description["size"][0]), int(description["size"][1]))
    how = Fitting(**description["how"])
    return FileReader(**{**description, "tree": tree_of(description["tree"]), "size": size, "how": how})


def blamed(error: Exception, name: str, what: str = "") -> Exception:
    """The error of a decoder: BadItem where the file is at fault, UserError where the disk is."""
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
