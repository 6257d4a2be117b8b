"""Folders that runs of version 0.1 were trained on are read by its rules again: their fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened
from data.folder_maker import Maker


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), [level, 255 - level, 40], np.uint8)).save(path)


def old_classes(folder: Path) -> None:
    for number in range(6):
        picture(folder / ("cat", "dog", "10", "9")[number % 4] / f"{number}.png", 30 * number)


def old_split(folder: Path) -> None:
    for number in range(6):
        side, name = ("train", "test")[number % 3 == 0], ("a", "b")[number % 2]
        picture(folder / side / name / f"{number}.png", 30 * number)


def old_table(folder: Path) -> None:
    rows = "file_name,label,text,mask,age,flag,when\n"
    for number in range(6):
        picture(folder / f"{number}.png", 30 * number)
        Image.fromarray(np.full((8, 8), number % 3, np.uint8)).save(folder / f"m{number}.png")
        rows += (
            f"{number}.png,{'xy'[number % 2]},text {number},m{number}.png,{number / 2},{bool(number % 2)},"
        )
        rows += f"2020-01-0{number + 1}\n"
    (folder / "metadata.csv").write_text(rows)


def old_coco(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", 30 * number)
    Maker(folder).json("annotations/all.json", {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(6)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": number, "image_id": number, "category_id": 1 + number % 2,
                         "segmentation": [[0, 0, 8, 0, 8, 4, 0, 4]]} for number in range(6)],
    })  # fmt: skip


def old_one_folder(folder: Path) -> None:
    for number in range(6):
        picture(folder / "one" / "ab"[number % 2] / f"{number}.png", 30 * number)
        (folder / "one" / "ab"[number % 2] / f"{number}.txt").write_text("words")


def old_pairs(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", 30 * number)
        Maker(folder, stem="{}").mask(number, f"masks/{number}.png")


@pytest.mark.parametrize(
    ("make", "fingerprint", "changed"),
    [  # measured with safelight 0.1's rules
        (old_classes, "3affb1531995123d920d31d1959db497", False),
        (old_split, "9465a675ad215e97f6cff3260c7ecd1f", False),
        (old_table, "362223a1c064ab2c8a975c6456541567", True),  # the column flag is an attribute now
        (old_coco, "4b81ff14a5956dfbdbe2de688a014a55", True),  # outlines are masks
        (old_one_folder, "bf7fbeaee9e6f5805e0af1488b4b9efe", True),  # classes and captions
        (old_pairs, "08c8ac8eacb9e8373f52e1a14bc754de", True),  # no classes, but masks
    ],
)
def test_what_a_run_was_trained_on_before_is_read_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], fingerprint: str, changed: bool
) -> None:
    make(tmp_path / "photos")
    assert opened(tmp_path / "photos", rules=1).fingerprint == fingerprint
    assert (opened(tmp_path / "photos").fingerprint != fingerprint) == changed
