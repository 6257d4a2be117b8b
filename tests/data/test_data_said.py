"""What is guessed of a folder, and what is said of what is not used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.files import opened, save
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.pack import Pack


def said(pack: Pack) -> dict[str, tuple[int, str]]:
    return {note.kind: (note.count, note.reason) for note in pack.notes}


def labels_of(pack: Pack) -> list[str]:
    return [pack.conditions["label"].names[number] for number in pack.given["label"]]


@pytest.mark.parametrize(
    "folders", [("2019_trip", "2020_trip"), ("01_cat", "02_dog"), ("1_cat", "2_dog"), ("0_a", "1_b")]
)
def test_folders_that_are_dated_or_numbered_are_no_repeats(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for number, folder in enumerate(folders * 2):
        save(tmp_path / folder / f"{number}.png")
    pack = opened(tmp_path)
    assert pack.weights is None
    assert pack.conditions["label"].names == folders
    stated = opened(tmp_path, layout="kohya")
    assert stated.weights is not None
    assert set(stated.weights.tolist()) == {float(folder.partition("_")[0]) for folder in folders}


def test_backslashes_in_the_names_of_files_are_folders(tmp_path: Path) -> None:
    for name in ("cat\\1.png", "dog\\2.png", "cat\\3.png"):
        save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.conditions["label"].names == ("cat", "dog")
    assert [label == name.partition("\\")[0] for label, name in zip(labels_of(pack), pack.names, strict=True)]


def annotated(folder: Path, outlines: bool) -> None:
    for number in range(2):
        save(
            folder / f"{folder.name}{number}.jpg",
            np.full((8, 8, 3), 40 * number + len(folder.name), np.uint8),
        )
    objects = [{"id": number, "image_id": number, "category_id": 3, "bbox": [0, 0, 4, 4],
                "segmentation": [[0, 0, 4, 0, 4, 4]] if outlines else []} for number in range(2)]  # fmt: skip
    images = [{"id": number, "file_name": f"{folder.name}{number}.jpg"} for number in range(2)]
    content = {"images": images, "annotations": objects, "categories": [{"id": 3, "name": "cat"}]}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def test_annotations_in_train_and_valid_are_the_split_and_boxes_are_said_to_be_unused(tmp_path: Path) -> None:
    for side in ("train", "valid"):
        annotated(tmp_path / side, outlines=side == "train")
    pack = opened(tmp_path)
    assert sorted(pack.names[item] for item in pack.held_out) == ["valid/valid0.jpg", "valid/valid1.jpg"]
    assert said(pack)["image of objects without outlines"] == (2, "boxes are not used")
    assert pack.conditions["mask"].size == 2


def test_the_colours_of_all_masks_together_are_proposed(tmp_path: Path) -> None:
    for number in range(3):
        mask = np.zeros((8, 8, 3), np.uint8)
        mask[4:] = (255, 0, 100 * number)
        save(tmp_path / "masks" / f"{number}.png", mask)
        save(tmp_path / "images" / f"{number}.png")
    keys = {"mask_colours": ["#000000", "#ff0000", "#ff0064", "#ff00c8"]}
    pack = opened(tmp_path, **keys)
    assert "mask in colours" not in said(pack)
    assert np.unique(pack.given["mask"]).tolist() == [0, 1, 2, 3]
    notes = {note.kind: note for note in find_source(Data(path=str(tmp_path))).items().notes}
    assert json.dumps(keys["mask_colours"]) in notes["mask in colours"].reason
    assert notes["mask in colours"].count == 3


def test_numbers_beside_pictures_are_no_captions_and_empty_files_are_said_once(tmp_path: Path) -> None:
    for number, words in enumerate(("0 0.5 0.5 0.2 0.1\n1 0.1 0.1 .2 .2\n", "", "a dog", "a cat")):
        save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(words)
    pack = opened(tmp_path)
    assert list(pack.texts) == [(), (), ("a dog",), ("a cat",)]
    assert said(pack)[".txt file of numbers"] == (1, "boxes or outlines, which are not used")
    assert said(pack)["image without a caption"][0] == 2
    assert ".txt file" not in said(pack)


def test_captions_and_tables_in_utf_16_are_read_where_they_say_so(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "one" / f"{name}.png")
        save(tmp_path / "two" / f"{name}.png")
        (tmp_path / "one" / f"{name}.txt").write_text(f"café {name}", "utf-16")
    (tmp_path / "two" / "metadata.tsv").write_text(
        "file_name\ttext\na.png\tcafé a\nb.png\tcafé b\n", "utf-16"
    )
    for folder in ("one", "two"):
        assert list(opened(tmp_path / folder).texts) == [("café a",), ("café b",)]


@pytest.mark.parametrize("column", ["id", "image_id", "ID"])
def test_a_column_of_ids_names_images_without_their_endings(tmp_path: Path, column: str) -> None:
    for number in range(4):
        save(tmp_path / "train" / f"0{number}.jpg")
    (tmp_path / "labels.csv").write_text(f"{column},breed,label\n00,x,a\n01,y,b\n02,x,a\n03,y,b\n")
    assert labels_of(opened(tmp_path)) == ["a", "b", "a", "b"]
    (tmp_path / "labels.csv").write_text(f"{column},label\n00,a\n7,b\n")  # names something else
    assert "label" not in opened(tmp_path).conditions


def test_a_table_in_json_may_be_by_column(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.json").write_text('{"file_name": ["a.png", "b.png"], "text": ["x", "y"]}')
    assert list(opened(tmp_path).texts) == [("x",), ("y",)]


def test_sheets_of_folders_and_archives_are_no_data_wherever_they_lie(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("cat/1.png", "dog/2.png"):
        save(photos / name)
    before = opened(photos).fingerprint
    save(photos / "photos-data.png")
    save(photos / "cat-data.png")
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    assert opened(tmp_path / "photos.zip").fingerprint == before
    shutil.make_archive(str(photos / "backup.of.it"), "zip", photos)
    save(photos / "backup.of.it-data.png")
    save(photos / "dog" / "my-data.png")  # of nothing that is here
    pack = opened(photos)
    assert pack.names == ["cat/1.png", "dog/2.png", "dog/my-data.png"]
    assert said(pack)["sheet of safelight"][0] == 3
