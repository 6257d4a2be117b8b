from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.files import opened, save
from safelight.config import UserError
from safelight.data import json_stream
from safelight.data.json_stream import elements

CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}]


def write(folder: Path, name: str, content: object) -> None:
    path = folder / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def listed(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number, "file_name": f"{number:012d}.jpg", "width": 8} for number in numbers]


def coco(folder: Path, images: Callable[[str], str] = lambda split: split) -> None:
    """Two training images, one validation image, one that is not listed."""
    for split, numbers in (("train2014", (9, 25, 30)), ("val2014", (42,))):
        for number in numbers:
            save(folder / images(split) / f"{number:012d}.jpg")
    captions = [(25, 8, "second of 25"), (9, 5, " a cat "), (25, 2, "première de 25")]
    write(
        folder,
        "captions_train2014.json",
        {
            "annotations": [
                {"image_id": i, "id": caption_id, "caption": text} for i, caption_id, text in captions
            ],
            "info": {"year": 2014, "annotations": []},
            "images": listed(9, 25),
        },
    )
    write(
        folder,
        "instances_train2014.json",
        {
            "images": listed(9, 25),
            "annotations": [
                {"image_id": 9, "id": 1, "category_id": 17, "segmentation": [[1.5, 2, 3]]},
                {"image_id": 9, "id": 2, "category_id": 17},
                {"image_id": 25, "id": 3, "category_id": 17},
                {"image_id": 25, "id": 4, "category_id": 3},
            ],
            "categories": CATEGORIES,
        },
    )
    write(
        folder,
        "instances_val2014.json",
        {
            "images": listed(42),
            "annotations": [{"image_id": 42, "id": 5, "category_id": 3}],
            "categories": CATEGORIES,
        },
    )


@pytest.mark.parametrize("images", [lambda s: s, lambda s: f"images/{s}", lambda s: "images", lambda s: "."])
def test_captions_categories_and_the_split(tmp_path: Path, images: Callable[[str], str]) -> None:
    coco(tmp_path, images)
    pack = opened(tmp_path)
    where = [images("train2014"), images("train2014"), images("val2014")]
    names = [
        Path(folder, f"{number:012d}.jpg").as_posix()
        for folder, number in zip(where, (9, 25, 42), strict=True)
    ]
    assert pack.names == names
    assert list(pack.texts) == [("a cat",), ("première de 25", "second of 25"), ()]
    assert pack.conditions["label"].names == ("car", "cat")
    assert pack.covered["label"].tolist() == [True, False, True]  # 25 shows a cat and a car
    assert pack.given["label"].tolist() == [1, 0, 0]
    assert pack.held_out.tolist() == [2]
    assert not opened(tmp_path, labels=False).conditions


def test_one_file_of_captions_is_enough(tmp_path: Path) -> None:
    save(tmp_path / "images" / "x.png")
    write(
        tmp_path,
        "all.json",
        {
            "images": [{"id": "x", "file_name": "x.png"}],
            "annotations": [{"image_id": "x", "caption": "An x."}],
        },
    )
    pack = opened(tmp_path)
    assert pack.texts[0] == ("An x.",)
    assert not pack.conditions


def test_an_image_that_is_listed_and_missing_is_bad(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "train2014" / "000000000025.jpg").unlink()
    with pytest.raises(
        UserError, match=r"1 of 3 images cannot be used: 000000000025\.jpg \(.* but it is not there"
    ):
        opened(tmp_path)
    assert len(opened(tmp_path, skip_bad=True)) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is cut off"),
        ("[1, 2]", "expected '{', found '\\['"),
        ('{"images": [{"id": 1, "file_name": "a.png"}', "is cut off"),
        ('{"images": [{"id": 1, "file_na', "not COCO's annotations"),
        ('{"images": [{"name": "a.png"}]}', "an element of images lacks its id or file name"),
        ('{"annotations": [{"caption": "x"}]}', "an element of annotations lacks its id"),
        ('{"images": []}', "lists no image that is there"),
        ('{"images": 3, "annotations": "x"}', "lists no image that is there"),
        ("[" * 100_000, "expected '{'"),
        ('{"images": ' + "[" * 100_000, "not COCO's annotations"),
        ("{1: 2}", "not COCO's annotations"),
        ('{"images": [] "x": 1}', "expected ','"),
    ],
)
def test_annotations_that_are_none_are_one_clear_line(tmp_path: Path, content: str, says: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions.json").write_text(content)
    with pytest.raises(UserError, match=says) as error:
        opened(tmp_path)
    assert "annotations/captions.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
def test_a_stream_of_elements_is_the_document(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    rng = random.Random(0)
    values: list[Any] = [12, -1.5e-3, 'ü\\" 火', True, None, [], {}, [1, [2]], {"a": [1, {"b": "]}"}]}]
    for indent in (None, 1):
        document = {
            f"k{place}": rng.choices(values, k=rng.randrange(4)) if place % 2 else rng.choice(values[:5])
            for place in range(9)
        }
        content = json.dumps(document, ensure_ascii=False, indent=indent).encode("utf-8-sig")
        streamed: dict[str, Any] = {key: [] for key, value in document.items() if isinstance(value, list)}
        for key, value in elements(io.BytesIO(content)):
            if isinstance(document[key], list):
                streamed[key].append(value)
            else:
                streamed[key] = value
        assert streamed == document


def test_an_empty_object_has_no_elements() -> None:
    assert list(elements(io.BytesIO(b" {} "))) == []
