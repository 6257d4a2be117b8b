"""Pictures that a package reads (HEIC, JPEG XL, SVG), a measured white, folders of idx files."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened, save, unlike
from safelight.config import UserError, check
from safelight.data import find_source, images, listing
from safelight.data.config import Data
from safelight.data.inspection import inspect
from safelight.data.packing import open_pack

SVG = 'svg xmlns="http://www.w3.org/2000/svg"'
DRAWING = f'<{SVG} viewBox="0 0 {{w}} {{h}}"><rect width="{{x}}" height="{{h}}" fill="{{c}}"/></svg>'
RED = np.full((64, 48, 3), (200, 30, 60), np.uint8)


def phone(folder: Path) -> Path:
    """A folder as phones and designers leave it."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    pytest.importorskip("pillow_jxl")
    pytest.importorskip("resvg_py")
    folder.mkdir()
    for name in ("a.HEIC", "b.jxl", "c.jpg", "d.avif"):
        Image.fromarray(RED).save(folder / name, quality=95)
    (folder / "e.svg").write_text(DRAWING.format(w=4, h=2, x=2, c="blue"))
    (folder / "f.svgz").write_bytes(gzip.compress(DRAWING.format(w=4, h=4, x=4, c="lime").encode()))
    (folder / "c.svg").write_text(DRAWING.format(w=1, h=1, x=1, c="red"))
    return folder


def test_heic_jxl_and_svg_are_pictures_here_and_in_other_processes(tmp_path: Path) -> None:
    folder = phone(tmp_path / "photos")
    source = find_source(check(Data, {"path": str(folder), "size": 16}, "data"))
    pack = open_pack(source, 0.0, False, processes=2)
    assert pack.names == ["a.HEIC", "b.jxl", "c.jpg", "d.avif", "e.svg", "f.svgz"]
    for item in range(4):
        assert np.abs(pack.images[item].astype(int) - RED[0, 0]).max() < 8
    np.testing.assert_array_equal(pack.images[5], np.full((16, 16, 3), (0, 255, 0)))
    assert np.abs(pack.images[4][:, :7].astype(int) - (0, 0, 255)).max() < 3  # its other half
    assert pack.images[4][:, 9:].min() > 252  # is transparent
    assert [str(note) for note in pack.notes if note.kind == "drawing"] == [
        "drawing, such as c.svg; a picture beside it has its name"
    ]
    facts = inspect(check(Data, {"path": str(folder)}, "data")).facts()
    assert facts["formats"] == {"SVG": 2, "HEIF": 1, "JXL": 1, "JPEG": 1, "AVIF": 1}
    assert {(size["height"], size["width"]) for size in facts["sizes"]} == {(64, 48), (512, 1024), (512, 512)}
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert opened(tmp_path / "photos.zip", size=16).fingerprint == opened(folder, size=16).fingerprint
    old = find_source(check(Data, {"path": str(folder), "size": 16, "rules": 1}, "data"))
    assert list(old.items().names) == ["c.jpg", "d.avif"]


def test_what_is_missing_is_named_with_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = phone(tmp_path / "photos")
    monkeypatch.setattr(listing, "find_spec", lambda module: None)
    listing.missing_package.cache_clear()
    try:
        pack = opened(folder, size=16)
        assert pack.names == ["c.jpg", "d.avif"]
        assert sorted(str(note) for note in pack.notes if " file" in note.kind) == [
            ".heic file, such as a.HEIC; needs: pip install pillow-heif (safelight[photos])",
            ".jxl file, such as b.jxl; needs: pip install pillow-jxl-plugin (safelight[photos])",
            ".svg file: 2, such as c.svg; needs: pip install resvg-py (safelight[svg])",
            ".svgz file, such as f.svgz; needs: pip install resvg-py (safelight[svg])",
        ]
        for name in ("c.jpg", "d.avif"):
            (folder / name).unlink()
        with pytest.raises(UserError, match=r"holds no image; .*needs: pip install pillow-heif"):
            opened(folder, size=16)
    finally:
        listing.missing_package.cache_clear()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f'<{SVG} xmlns:xlink="http://www.w3.org/1999/xlink" width="4" height="4">'
         '<image xlink:href="/etc/passwd" width="4" height="4"/></svg>', "lies outside of it"),
        (f'<{SVG} width="1" height="99999"/>', "times as wide as high"),
        ("<svg", "root node"),
        (f'<?xml version="1.0"?><{SVG} width="0" height="0"/>', "invalid size"),
    ],
)  # fmt: skip
def test_a_drawing_that_is_none_is_bad(tmp_path: Path, content: str, reason: str) -> None:
    pytest.importorskip("resvg_py")
    save(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "b.svg").write_text(content)
    (bad,) = opened(tmp_path / "d", size=8, skip_bad=True).bad
    assert bad.startswith("b.svg (")
    assert reason in bad


def test_white_is_measured(tmp_path: Path) -> None:
    greys = np.random.default_rng(0).integers(0, 1001, (6, 64, 64)).astype(np.uint16)
    greys[2:] *= 4  # 12 bits, of which some use all
    greys[:, 0, 0] = 60_000  # hot pixels
    for place, grey in enumerate(greys):
        path = tmp_path / "scans" / f"{place}.{'png' if place % 2 else 'tif'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(path)
    white = max(np.quantile(grey, 0.999) for grey in greys)
    assert 3900 < white < 4001
    pack = opened(tmp_path / "scans", white="measured")
    expected = np.rint(greys.astype(float) * (255 / white)).clip(0, 255)
    np.testing.assert_array_equal(np.asarray(pack.images)[..., 0], expected)
    (note,) = pack.notes
    assert note.kind == f"white measured as {white:,.6g}"
    assert "data.white=NUMBER" in note.reason
    with pytest.raises(UserError, match=r"^data\.white: measured needs grey pictures of 16 bits"):
        opened(save(tmp_path / "eight" / "a.png").parent, white="measured")


def test_a_folder_of_idx_files_needs_no_source(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.stack([unlike(number)[..., 0] for number in range(6)])
    head = b"\0\0\x08\x03" + np.array(pixels.shape, ">u4").tobytes()
    for split, part in (("train", pixels[:4]), ("t10k", pixels[4:])):
        head = b"\0\0\x08\x03" + np.array(part.shape, ">u4").tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + part.tobytes())
        labels = b"\0\0\x08\x01" + np.array([len(part)], ">u4").tobytes() + bytes(range(len(part)))
        (raw / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    for path in (raw, tmp_path / "MNIST", tmp_path):
        data = check(Data, {"path": str(path)}, "data")
        assert (data.source, data.path) == ("idx", str(raw))
    pack = opened(tmp_path / "MNIST")
    assert (len(pack.train), len(pack.held_out), pack.conditions["label"].size) == (4, 2, 4)
    save(raw / "a.png")  # then it is a folder of pictures
    assert check(Data, {"path": str(raw)}, "data").source == "folder"


def test_formats_are_registered_once() -> None:
    assert images._formats() is images._formats()
