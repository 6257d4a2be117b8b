"""Layouts of folders with masks: in a folder beside the pictures, by name, and as outlines of COCO."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from data.folder_layouts import LAYOUTS, layout
from data.folder_maker import COUNT, SIDE, Maker, Said, mask


def paired(maker: Maker, images: str, masks: str) -> Said:
    for number in range(COUNT):
        maker.picture(number, f"{images}/")
        maker.mask(number, f"{masks}/{maker.stem.format(number)}.png")
    return Said(masked=True)


PAIRS = (("images", "masks"), ("images", "labels"), ("img", "segmentation"), ("images", "annotations"))
for images, masks in PAIRS:

    def pairs(maker: Maker, images: str = images, masks: str = masks) -> Said:
        return paired(maker, images, masks)

    LAYOUTS[f"{images} and {masks}"] = pairs


@layout
def pairs_in_splits(maker: Maker) -> Said:
    for number in range(COUNT):
        side = "test" if number in (0, 5) else "train"
        maker.picture(number, f"{side}/images/")
        maker.mask(number, f"{side}/masks/{maker.stem.format(number)}.png")
    return Said(masked=True, held_out=(0, 5))


@layout
def pairs_by_name(maker: Maker) -> Said:
    for number in range(COUNT):
        maker.picture(number)
        maker.mask(number, f"{maker.stem.format(number)}_mask.png")
    return Said(masked=True)


def outlined(number: int) -> list[list[float]]:
    rows = min(number + 1, SIDE)
    return [[0, 0, SIDE, 0, SIDE, rows, 0, rows]]


def run_lengths(number: int) -> dict[str, object]:
    flat = mask(number).T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return {"size": [SIDE, SIDE], "counts": np.diff([0, *edges, flat.size]).tolist()}


def coco(maker: Maker, path: str, outline: Callable[[int], object], images: str = "images/") -> Said:
    for number in range(COUNT):
        maker.picture(number, images)
    maker.json(
        path,
        {
            "images": [{"id": number, "file_name": maker.name(number), "height": SIDE, "width": SIDE}
                       for number in range(COUNT)],
            "categories": [{"id": 7, "name": "cat"}],
            "annotations": [{"id": 1 + number, "image_id": number, "category_id": 7, "area": 1.0,
                             "iscrowd": 0, "segmentation": outline(number)} for number in range(COUNT)],
        },
    )  # fmt: skip
    return Said(masked=True)


@layout
def coco_polygons(maker: Maker) -> Said:
    return coco(maker, "annotations/instances.json", outlined)


@layout
def coco_run_lengths(maker: Maker) -> Said:
    return coco(maker, "annotations/instances.json", run_lengths)


@layout
def coco_of_roboflow(maker: Maker) -> Said:
    return coco(maker, "_annotations.coco.json", outlined, "")


@layout
def coco_of_several_categories(maker: Maker) -> Said:
    """Class 1 lies over class 2, which is larger; a category that nothing shows has a number too."""
    said = coco(maker, "annotations/instances.json", outlined)
    path = maker.folder / "annotations" / "instances.json"
    content = json.loads(path.read_bytes().decode(maker.encoding))
    content["categories"] += [{"id": 9, "name": "sky"}, {"id": 90, "name": "none of these"}]
    whole = [[0, 0, SIDE, 0, SIDE, SIDE, 0, SIDE]]
    content["annotations"] += [
        {"id": 100 + number, "image_id": number, "category_id": 9, "segmentation": whole}
        for number in range(COUNT)
    ]
    maker.json("annotations/instances.json", content)
    return replace(said, over=2)
