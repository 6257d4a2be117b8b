"""Image files of every kind and of no kind."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened, save
from safelight.config import UserError
from safelight.data.tree import FolderTree

RED, BLUE = (255, 0, 0), (0, 0, 255)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def reason(folder: Path, **keys: object) -> str:
    """Why the one bad file beside good.png is refused."""
    if not (folder / "good.png").exists():
        save(folder / "good.png")
    with pytest.raises(UserError, match="1 of 2 images cannot be used") as error:
        opened(folder, **{"size": 8, **keys})
    pack = opened(folder, **{"size": 8, "skip_bad": True, **keys})
    assert pack.names == ["good.png"]
    (bad,) = pack.bad
    assert bad in str(error.value)
    assert "\n" not in str(error.value)
    return bad


def test_sixteen_bits_of_colour_keep_their_upper_eight(tmp_path: Path) -> None:
    values = np.array([[[0, 65535, 32768], [257, 0x1234, 0xFEDC]]], ">u2")
    (tmp_path / "deep.png").write_bytes(png(2, 1, 16, 2, b"\0" + values.tobytes()))
    pixels = np.asarray(opened(tmp_path).images[0], int)
    assert np.abs(pixels - values / 257).max() <= 1


def test_four_channels_of_print_and_of_transparency(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    Image.new("RGBA", (8, 8), (0, 0, 255, 255)).save(tmp_path / "screen.webp", lossless=True)
    pack = opened(tmp_path)
    assert np.abs(np.asarray(pack.images[0], int) - RED).max() <= 3
    np.testing.assert_array_equal(pack.images[1], np.broadcast_to(BLUE, (8, 8, 3)))


def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 8, 4))
    image.save(tmp_path / "p.png", transparency=0)
    pixels = opened(tmp_path).images[0]
    np.testing.assert_array_equal(pixels[:4], np.broadcast_to(BLUE, (4, 8, 3)))
    assert (pixels[4:] == 255).all()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, BLUE)]
    keys = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **keys)
    np.testing.assert_array_equal(opened(tmp_path).images[0], np.broadcast_to(RED, (8, 8, 3)))


def test_a_tiny_image_is_enlarged(tmp_path: Path) -> None:
    save(tmp_path / "dot.png", np.array([[[10, 200, 30]]], np.uint8))
    np.testing.assert_array_equal(
        opened(tmp_path, size=8).images[0], np.broadcast_to((10, 200, 30), (8, 8, 3))
    )


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "a photo.JPG")
    np.testing.assert_array_equal(opened(tmp_path).images[0], np.broadcast_to(RED, (8, 8, 3)))


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(50_000, 50_000, 8, 0, bytes(1000)))  # 2.5 GB of grey
    assert "bomb.png (over 178 million pixels, a decompression bomb" in reason(tmp_path)


def test_an_image_that_pillow_only_warns_of_is_taken(tmp_path: Path) -> None:
    side = 9_500  # 90 million pixels
    (tmp_path / "wide.png").write_bytes(png(side, side, 1, 0, bytes(side * (1 + -(-side // 8)))))
    assert (opened(tmp_path, size=8).images[0] == 0).all()


def test_a_postscript_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands such a file to Ghostscript, whatever its name."""
    lines = (
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"%%BoundingBox: 0 0 8 8",
        b"%%EndComments",
        b"showpage",
        b"%%EOF",
        b"",
    )
    (tmp_path / "page.png").write_bytes(b"\n".join(lines))
    with Image.open(tmp_path / "page.png") as image:
        assert image.format == "EPS"
    assert reason(tmp_path) == "page.png (not an image)"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_file_cut_off_anywhere_is_bad_or_whole_enough(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    content = buffer.getvalue()
    for part in range(9):
        (tmp_path / f"{part}.png").write_bytes(content[: len(content) * part // 10])
    (tmp_path / "whole.png").write_bytes(content)
    pack = opened(tmp_path, size=8, skip_bad=True)
    assert len(pack) + len(pack.bad) == 10
    assert "0.png (not an image)" in pack.bad
    assert len(pack) <= 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (b"GIF89a", None),
        (b"\xff\xd8\xff", None),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, says: str | None) -> None:
    (tmp_path / "a.png").write_bytes(content)
    refusal = reason(tmp_path)
    assert refusal.startswith("a.png (")
    assert says is None or refusal == f"a.png ({says})"


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H2HI", 9, 0x0112, 99, 2**31) + b"\xff" * 40
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert np.abs(np.asarray(opened(tmp_path).images[0], int) - RED).max() <= 3


def test_what_may_not_be_read_is_bad_and_taken_once_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "locked.png")
    whole = FolderTree.open

    def refusing(tree: FolderTree, name: str) -> object:  # root may read anything, so chmod proves nothing
        if name == "locked.png":
            raise PermissionError(13, "Permission denied", name)
        return whole(tree, name)

    os.chmod(tmp_path / "locked.png", 0)
    with monkeypatch.context() as patch:
        patch.setattr(FolderTree, "open", refusing)
        assert reason(tmp_path) == "locked.png (permission denied)"
    os.chmod(tmp_path / "locked.png", 0o644)
    assert len(opened(tmp_path, size=8)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
def test_a_pipe_in_the_folder_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    assert opened(tmp_path).names == ["b.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("locked/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"1 of 2 images cannot be used: locked/ \(Permission denied\)"):
        opened(tmp_path)


def test_grey_images_stay_grey_until_one_has_colour(tmp_path: Path) -> None:
    for level in (0, 90, 255):
        save(tmp_path / f"{level}.png", np.full((8, 8), level, np.uint8))
    grey = opened(tmp_path)
    assert grey.spec.shape == (1, 8, 8)
    assert grey.images[:, 0, 0, 0].tolist() == [0, 255, 90]
    same = opened(tmp_path, channels=1)
    assert same.fingerprint == grey.fingerprint
    assert same.held_out.tolist() == grey.held_out.tolist()
    save(tmp_path / "red.png", np.full((8, 8, 3), RED, np.uint8))
    colour = opened(tmp_path)
    assert colour.spec.shape == (3, 8, 8)
    assert colour.fingerprint == opened(tmp_path, channels=3).fingerprint
