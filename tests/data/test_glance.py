"""A cheap look at a folder: what it tells, and how little it opens."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.data import glance as module
from safelight.data.config import Data
from safelight.data.glance import _asymmetry, _copies, glance


def write(folder, count, height=24, width=20, seed=0, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for item in range(start, start + count):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{item:04}.png")


def look(path):
    return glance(Data(path=str(path)))


def test_what_is_seen(tmp_path):
    write(tmp_path / "a", 6)
    write(tmp_path / "b", 4, height=40, width=80, seed=1)
    seen = look(tmp_path)
    assert (seen.images, seen.classes, seen.share, seen.colour) == (
        10,
        {"a": 6, "b": 4},
        {"label": 1.0},
        True,
    )
    assert (seen.median, seen.least, seen.same) == ((24, 20), 20, False)
    assert seen.cut == pytest.approx(1 - 20 / 24)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, 9)
    (tmp_path / "x.png").write_bytes(b"none")
    assert look(tmp_path).bad == ("x.png (not an image)",)


def test_nothing_can_be_read(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"no picture can be read; first a.png \(not an image\)"):
        look(tmp_path)


def test_few_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEADERS", 5)
    monkeypatch.setattr(module, "DECODED", 3)
    write(tmp_path, 40)
    lines = []
    seen = glance(Data(path=str(tmp_path)), lambda what, done, total: lines.append((what, total)))
    assert (seen.images, len(seen.sizes)) == (40, 5)
    assert {total for what, total in lines if "decoding" in what} == {3}


def test_transparent_pictures_and_soft_masks(tmp_path):
    ramp = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (52, 1))
    for item in range(8):
        picture = np.dstack([np.full((52, 52, 3), 30 * item, np.uint8), ramp])
        for folder, pixels in (("clear", picture), ("both/images", picture[..., :3]), ("both/masks", ramp)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{item}.png")
    assert look(tmp_path / "clear").transparent
    seen = look(tmp_path / "both")
    assert (seen.transparent, seen.images, seen.share, seen.mask_classes) == (False, 8, {"mask": 1.0}, 2)
    assert "numbers up to" in seen.mask_problem


def test_near_copies_by_their_gradients():
    random = np.random.default_rng(0)
    pictures = [
        np.kron(random.integers(0, 256, (8, 8)), np.ones((4, 4))).astype(np.uint8)[..., None]
        for _ in range(8)
    ]
    assert _copies(pictures) == 0
    brighter = (pictures[0] * 0.9 + 20).astype(np.uint8)
    assert _copies([*pictures, brighter]) == pytest.approx(2 / 9)
    assert (
        _copies([np.full((32, 32, 1), value, np.uint8) for value in (0, 0, 255)]) == 0
    )  # flat ones say nothing


def test_asymmetry_is_one_by_chance_and_large_for_a_side():
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (32, 32, 1)).astype(np.uint8) for _ in range(64)]
    assert _asymmetry(noise) == pytest.approx(1, abs=0.15)
    ramp = np.linspace(0, 100, 32)[None, :, None]
    assert _asymmetry([(picture * 0.5 + ramp).astype(np.uint8) for picture in noise]) > 10
    assert _asymmetry([picture // 2 + picture[:, ::-1] // 2 for picture in noise]) == 0


@pytest.mark.parametrize(
    ("changed", "edge"),
    [({}, "#1e6496"), ({"strong": 3}, ""), ({"unlike": 3}, ""), ({"strong": 1, "unlike": 1}, "#1e6496")],
)
def test_the_colour_of_most_edges(tmp_path, changed, edge):
    random = np.random.default_rng(0)
    for item in range(12):
        pixels = np.full((40, 90, 3), (30, 100, 150), np.uint8) + random.integers(-3, 4, (40, 90, 3)).astype(
            np.uint8
        )
        pixels[10:30, 20:70] = random.integers(0, 256, (20, 50, 3))
        if item < changed.get("strong", 0):
            pixels = random.integers(0, 256, (40, 90, 3), np.uint8)
        elif item < changed.get("strong", 0) + changed.get("unlike", 0):
            pixels[:] += 60
        Image.fromarray(pixels).save(tmp_path / f"{item}.png")
    seen = look(tmp_path).edge
    assert bool(seen) == bool(edge)
    if edge:
        assert max(abs(a - b) for a, b in zip(bytes.fromhex(seen[1:]), (30, 100, 150), strict=True)) <= 1
