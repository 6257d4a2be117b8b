"""Files damaged at random: an image is made or the item is bad, data open or one clear line is raised."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.images import blamed, decode, decode_mask, height_width, open_image, orientation, quiet
from safelight.data.source import BadItem

DAMAGED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# what happens to a file: bytes put at a place over some of its own (place and length as parts of 1000)
wounds = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 400), st.binary(max_size=12)), min_size=1, max_size=4
)


def wounded(content: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, new in places:
        start = len(content) * place // 1000
        content = content[:start] + new + content[start + length * len(new) // 400 :]
    return content


@contextmanager
def blaming() -> Iterator[None]:
    """As items are read."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise blamed(error, "a") from error


def image_of(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    if kind == "palette":
        image = Image.fromarray(rng.integers(0, 4, (20, 24), np.uint8)).convert("P")
        kind = "PNG"
    elif kind == "sixteen":
        image, kind = Image.fromarray(rng.integers(0, 60_000, (20, 24), np.uint16)), "TIFF"
    else:
        image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "palette", "sixteen"]
)
@DAMAGED
@given(places=wounds)
def test_a_damaged_image_is_a_picture_or_a_bad_item(kind: str, places: list[tuple[int, int, bytes]]) -> None:
    content = wounded(image_of(kind), places)
    try:
        with blaming(), open_image(io.BytesIO(content)) as image:
            turned = orientation(image)
            whole = height_width(image, turned)
            pixels = decode(image, turned, (5, 7), 0)
    except BadItem as bad:
        reason = str(bad)
    else:
        reason = "a picture"
        assert pixels.shape in ((5, 7, 1), (5, 7, 3))
        assert pixels.dtype == np.uint8
        assert min(whole) > 0
    assert reason
    assert "\n" not in reason
    try:
        with blaming(), open_image(io.BytesIO(content)) as image:
            mask = decode_mask(image, (5, 7), (image.height, image.width), None)
    except BadItem:
        pass
    else:
        assert mask.shape == (5, 7)
        assert mask.dtype == np.uint8


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def csv_folder(folder: Path) -> Path:
    text = 'file_name,label,hair,text,mask\na.png,cat,.5,a cat,b.png\nb.png,dog,1e-3,"a, dog",\n'
    (folder / "metadata.csv").write_text(text)
    return folder / "metadata.csv"


def jsonl_folder(folder: Path) -> Path:
    rows = [
        {"file_name": "a.png", "label": 1, "hair": 0.5, "captions": ["one", "two"], "mask": None},
        {"file_name": "b.png", "label": 2, "hair": 3, "captions": "three", "mask": "a.png"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "metadata.jsonl"


def coco_folder(folder: Path) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [
            {"id": 1, "image_id": 1, "caption": "é"},
            {"id": 2, "image_id": 2, "category_id": 3, "bbox": [1.5, 2, 3, 4]},
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "all_train.json").write_text(json.dumps(content))
    return folder / "annotations" / "all_train.json"


@pytest.mark.parametrize("layout", [csv_folder, jsonl_folder, coco_folder])
@DAMAGED
@given(places=wounds)
def test_damaged_metadata_are_read_or_one_clear_line(
    tmp_path: Path, layout: Callable[[Path], Path], places: list[tuple[int, int, bytes]]
) -> None:
    folder = tmp_path / "data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture())
    metadata = layout(folder)
    metadata.write_bytes(wounded(metadata.read_bytes(), places))
    opens_or_one_line(folder)


def zip_file(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/a.png", picture())
        archive.writestr("x/metadata.csv", "file_name,label\na.png,1\n")
    return folder / "p.zip"


def npz_file(folder: Path) -> Path:
    arrays = {"images": np.zeros((4, 3, 3), np.uint8), "labels": np.arange(4)}
    np.savez_compressed(folder / "p.npz", **arrays)
    return folder / "p.npz"


def plain_npz_file(folder: Path) -> Path:
    texts = np.array(["a", "b", "c", "d"])
    np.savez(folder / "p.npz", images=np.zeros((4, 3, 3, 3), np.float32), texts=texts)
    return folder / "p.npz"


def npy_file(folder: Path) -> Path:
    np.save(folder / "p.npy", np.zeros((4, 3, 3), np.uint8))
    return folder / "p.npy"


def idx_file(folder: Path) -> Path:
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4, 3, 3) + bytes(36)
    (folder / "p-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    return folder / "p-images-idx3-ubyte.gz"


@pytest.mark.parametrize("kind", [zip_file, npz_file, plain_npz_file, npy_file, idx_file])
@DAMAGED
@given(places=wounds)
def test_a_damaged_file_of_data_is_read_or_one_clear_line(
    tmp_path: Path, kind: Callable[[Path], Path], places: list[tuple[int, int, bytes]]
) -> None:
    path = kind(tmp_path)
    path.write_bytes(wounded(path.read_bytes(), places))
    opens_or_one_line(path)


def opens_or_one_line(path: Path) -> None:
    shutil.rmtree(path.parent / "cache", ignore_errors=True)  # each example is new, whatever the clock says
    try:
        pack = open_data(Data(path=str(path), skip_bad=True))
    except UserError as error:
        line = str(error)
    else:
        line = "open"
        assert len(pack) == len(pack.names) > 0
    assert "\n" not in line
    line.encode()
