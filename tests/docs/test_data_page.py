"""docs/data.md is true: its keys are keys, its folders are read as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened
from docs.pages import PAGES
from safelight.data.config import Data

TEXT = PAGES["docs/data.md"]
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
TREES = [(re.findall(r"\(`(\w+)`\)", TEXT[: TEXT.index(block)])[-1], block)
         for block in BLOCKS if block.startswith("photos/")]  # fmt: skip


def test_its_keys_are_keys() -> None:
    keys = set(re.findall(r"\bdata\.(\w+)", TEXT.replace("data.md", "")))
    assert len(keys) > 10
    assert keys <= set(Data.model_fields)


def grow(block: str, folder: Path) -> None:
    """The files of a tree as the page draws it; what stands behind a name is in the file, or in the table."""
    lines = [re.match(r"  (\S.*?)(?:   +(.*))?$", line) for line in block.splitlines()[1:]]
    names = [(line[1], line[2] or "") for line in lines if line]
    for number, (name, words) in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "mask" in name:
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
        elif name.endswith((".jpg", ".png")):
            Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(path)
        elif name.endswith(".csv"):
            path.write_text(
                "\n".join([words, *(row for _, row in names if row.count(",") > 2 and row != words)])
            )
        elif name.endswith(".json"):
            images = [other for other, _ in names if other.endswith(".jpg")]
            path.write_text(json.dumps({
                "images": [{"id": 1 + place, "file_name": other.rpartition("/")[2]}
                           for place, other in enumerate(images)],
                "annotations": [{"image_id": 1 + place, "id": place, "caption": other}
                                for place, other in enumerate(images)],
            }))  # fmt: skip
        else:
            path.write_text(words)


@pytest.mark.parametrize(("layout", "block"), TREES)
def test_a_folder_is_of_the_layout_that_it_illustrates(tmp_path: Path, layout: str, block: str) -> None:
    grow(block, tmp_path / "photos")
    pack = opened(tmp_path / "photos")
    assert pack.fingerprint == opened(tmp_path / "photos", layout=layout).fingerprint
    wanted = {"metadata": {"label", "attributes", "mask"}, "pairs": {"mask"}, "coco": set()}
    conditions = wanted.get(layout, {"label"} if "/" in block.replace("photos/\n", "") else set())
    assert set(pack.conditions) == conditions
    assert bool(len(pack.texts)) == (".txt" in block or layout in ("metadata", "coco", "kohya"))


def test_every_layout_has_a_folder() -> None:
    assert {layout for layout, _ in TREES} == {"metadata", "coco", "pairs", "kohya", "classes"}
