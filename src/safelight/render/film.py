"""Films: pictures of one size as mp4, webp, gif or a folder of PNGs; whole under its name, or not there."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from safelight.config import UserError
from safelight.render.lettering import AMBER, DARKROOM, Letters, font
from safelight.render.sheet import Images
from safelight.store.durable import mendable, publish, temporary_beside

ENDINGS = (".mp4", ".webp", ".gif", "")
SIDE = 512  # pixels: about the longer side of a film of small images
GAP = 2  # pixels between images that are shown together
QUALITY = "16"  # x264's constant rate factor: hardly distinguishable from the original


def check_ending(out: Path) -> None:
    """Raises UserError for a film that could not be written under this name."""
    if out.suffix not in ENDINGS:
        raise UserError(f"{out}: unknown output type; use .mp4, .webp, .gif, or a folder")
    if not out.suffix and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: exists and holds files; choose another folder, or move it")


def frame(images: Images, words: str = "") -> Image.Image:
    """Images (n, H, W, C) side by side as one picture, enlarged by a whole number, words in its lower corner.

    Height and width are even, which mp4 asks for.
    """
    images = images[..., :3]
    count, height, width, _ = images.shape
    square = math.ceil(math.sqrt(count))
    # the fewest empty places
    columns = min(range(square, square + count // 8 + 1), key=lambda wide: -count % wide)
    rows = math.ceil(count / columns)
    scale = max(1, round(SIDE / max(rows * height, columns * width)))
    high, wide = height * scale + GAP, width * scale + GAP
    across, down = columns * wide - GAP, rows * high - GAP
    picture = Image.new("RGB", (across + across % 2, down + down % 2), DARKROOM)
    for index, image in enumerate(images):
        large = image.repeat(scale, axis=0).repeat(scale, axis=1)
        pixels = np.ascontiguousarray(np.broadcast_to(large, (*large.shape[:2], 3)))
        picture.paste(Image.fromarray(pixels), (index % columns * wide, index // columns * high))
    if words:
        _write(picture, words)
    picture.info["enlarged"] = scale
    return picture


def _write(picture: Image.Image, words: str) -> None:
    """Words on a dark ground in the lower left corner."""
    letters = Letters(max(10, round(max(picture.size) / 36)), AMBER)
    pad = letters.size // 2
    length = math.ceil(font(letters.size).getlength(words))
    pen = ImageDraw.Draw(picture)
    top = picture.height - letters.line - pad
    pen.rectangle((0, top, length + 2 * pad, picture.height), fill=DARKROOM)
    letters.write(pen, [words], pad, top + pad // 2, "la")


def save_film(frames: Iterable[Image.Image], out: Path, fps: float) -> None:
    """Write frames of one size as `out`, by its ending: .mp4 (H.264), .webp, .gif; none: PNGs in a folder.

    A GIF counts in hundredths of a second, and most programs show none faster than 50 frames a second.
    Raises UserError.
    """
    check_ending(out)
    temporary = temporary_beside(out)
    with mendable(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            match out.suffix:
                case ".mp4":
                    _mp4(frames, temporary, fps)
                case "":
                    _folder(frames, temporary)
                case ending:
                    _animation(frames, temporary, ending[1:], fps)
            if temporary.is_file():
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            publish(temporary, out)
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
            raise


def _mp4(frames: Iterable[Image.Image], path: Path, fps: float) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"  # what every player knows
        stream.options = {"crf": QUALITY, "preset": "medium", "threads": "1"}
        for number, picture in enumerate(frames):
            if number == 0:
                stream.width, stream.height = picture.size
            whole = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            container.mux(stream.encode(whole))
        container.mux(stream.encode(None))


def _animation(frames: Iterable[Image.Image], path: Path, kind: str, fps: float) -> None:
    """WebP or GIF, played for ever."""
    rest: Iterator[Image.Image] = iter(frames)
    first = next(rest)
    more: dict[str, Any] = {"optimize": False}
    if kind == "webp":  # squares of one colour: without loss they take a third of the room
        more = {"quality": 90, "method": 4, "lossless": first.info.get("enlarged", 1) > 1}
    first.save(path, kind, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **more)


def _folder(frames: Iterable[Image.Image], path: Path) -> None:
    path.mkdir()
    for number, picture in enumerate(frames):
        picture.save(path / f"{number:06d}.png")
