"""How pictures of any size become pictures of one: cropped, padded, stretched or contained; their colours."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from PIL import Image, ImageCms, ImageColor

from safelight.data.source import Note

Fit = Literal["crop", "pad", "stretch", "contain"]
Crop = Literal["centre", "top", "entropy", "random"]

DETAIL = 2  # times the final size, at least, is what Lanczos is given; cheaper filters come before it
PLACES, BINS, THUMB = (
    9,
    32,
    64,
)  # of a crop by entropy: windows tried, grey levels, pixels of the shorter side
CUT = 0.1  # share of a picture that a crop may cut without being named


@dataclass(frozen=True)
class Fitting:
    """What the recipe says of it, as plain values."""

    fit: Fit = "crop"
    crop: Crop = "centre"
    background: str = "#ffffff"  # under transparent pixels, and around padded pictures
    smallest: int = 0  # pixels of the shorter side; pictures below are left out
    profiles: bool = True  # whether colour profiles are converted to sRGB
    white: float | None = None  # of pixels beyond 8 bits, where it is not the largest number they can hold

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background as RGB."""
        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue

    def place(self, image: Image.Image, size: tuple[int, int]) -> tuple[float, float]:
        """Where a crop to the shape of `size` (H, W) lies, (down, across), from 0 to 1 of what is cut."""
        if self.fit != "crop" or self.crop in ("centre", "random"):
            return 0.5, 0.5
        return (0.0, 0.5) if self.crop == "top" else _fullest(image, size)

    def placed(
        self, image: Image.Image, size: tuple[int, int], how: Image.Resampling,
        place: tuple[float, float] = (0.5, 0.5), around: int | tuple[int, ...] = 0,
    ) -> Image.Image:  # fmt: skip
        """An image at a size (H, W). around: the value of what is padded."""
        height, width = size
        if image.size == (width, height):
            return image
        gap = DETAIL if how is Image.Resampling.LANCZOS else None
        if self.fit == "stretch":
            return image.resize((width, height), how, reducing_gap=gap)
        if self.fit == "crop":
            scale = min(image.width / width, image.height / height)
            cut = (max(0.0, image.width - scale * width), max(0.0, image.height - scale * height))
            left, top = cut[0] * place[1], cut[1] * place[0]
            right, bottom = image.width - cut[0] * (1 - place[1]), image.height - cut[1] * (1 - place[0])
            return image.resize((width, height), how, box=(left, top, right, bottom), reducing_gap=gap)
        scale = max(image.width / width, image.height / height, 1.0 if self.fit == "pad" else 0.0)
        inside = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))
        smaller = image if image.size == inside else image.resize(inside, how, reducing_gap=gap)
        whole = Image.new(image.mode, (width, height), cast(Any, around))
        whole.paste(smaller, ((width - inside[0]) // 2, (height - inside[1]) // 2))
        return whole

    def effect(self, height: int, width: int, size: tuple[int, int]) -> tuple[float, float, float]:
        """What it does to a picture: share cut off, share of the result that is padded, times enlarged."""
        down, across = size[0] / height, size[1] / width
        if self.fit == "stretch":
            return 0.0, 0.0, max(down, across)
        if self.fit == "crop":
            return 1 - min(down, across) / max(down, across), 0.0, max(down, across)
        scale = min(down, across, 1.0 if self.fit == "pad" else np.inf)
        return 0.0, 1 - (scale / down) * (scale / across), scale

    def notes(
        self, names: Sequence[str], sizes: Mapping[int, tuple[int, int]], size: tuple[int, int]
    ) -> Iterable[Note]:
        """What is worth saying of pictures of those sizes, by item, at a size (H, W)."""
        effects = {item: self.effect(*whole, size) for item, whole in sizes.items()}
        words = f"{size[0]}x{size[1]}"
        if cut := {item: effect[0] for item, effect in effects.items() if effect[0] > CUT}:
            worst = max(cut, key=lambda item: cut[item])
            yield Note(
                f"image of which the crop to {words} cuts more than {CUT:.0%}", len(cut),
                f"{names[worst]} ({cut[worst]:.0%})", "data.fit=contain keeps all of it",
            )  # fmt: skip
        if grown := {item: effect[2] for item, effect in effects.items() if effect[2] > 1}:
            worst = max(grown, key=lambda item: grown[item])
            yield Note(
                f"image enlarged to {words}", len(grown), f"{names[worst]} ({grown[worst]:.3g} times)",
                f"data.smallest={min(size)} leaves such out",
            )  # fmt: skip


def _fullest(image: Image.Image, size: tuple[int, int]) -> tuple[float, float]:
    """The place of the crop whose grey levels have the most entropy, of PLACES; of equals the most central.

    Grey levels in BINS steps, of a copy whose shorter side has THUMB pixels.
    """
    height, width = size
    scale = min(image.width / width, image.height / height)
    rest_down, rest_across = image.height - scale * height, image.width - scale * width
    if max(rest_down, rest_across) < 1:
        return 0.5, 0.5
    small = min(1.0, THUMB / min(image.size))
    thumb = image.convert("L").resize(
        (max(1, round(image.width * small)), max(1, round(image.height * small))), Image.Resampling.BOX
    )
    grey, down = np.asarray(thumb) // (256 // BINS), rest_down > rest_across
    long = grey if down else grey.T
    window = max(
        1, round(len(long) * (1 - (rest_down / image.height if down else rest_across / image.width)))
    )
    best, where = -1.0, 0.5
    for place in sorted(np.linspace(0, 1, PLACES), key=lambda place: abs(place - 0.5)):
        begin = round((len(long) - window) * place)
        share = np.bincount(long[begin : begin + window].ravel(), minlength=BINS) / long[:window].size
        entropy = float(-(share[share > 0] * np.log2(share[share > 0])).sum())
        if entropy > best + 1e-6:
            best, where = entropy, float(place)
    return (where, 0.5) if down else (0.5, where)


def to_srgb(image: Image.Image) -> Image.Image:
    """An image with a colour profile, in sRGB; one without, or with sRGB's or a broken one, as it is."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        return image
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted.convert("L") if image.mode == "L" else converted


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """Pillow's transform from a profile to sRGB; None where there is nothing to do."""
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(theirs).lower():
            return None
        target = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.buildTransform(theirs, ImageCms.createProfile("sRGB"), mode, target)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def profile_name(image: Image.Image) -> str:
    """What an image's colour profile calls itself; "" where it has none that is converted."""
    profile = image.info.get("icc_profile")
    if not profile or _transform(profile, image.mode if image.mode in ("L", "CMYK") else "RGB") is None:
        return ""
    return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() or "unnamed"
