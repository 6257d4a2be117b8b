"""Folders as other tools and years leave them, each with what is read and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened, save, unlike

PLAIN = unlike(0)
Content = str | bytes | np.ndarray | None


def grow(folder: Path, files: Mapping[str, Content]) -> Path:
    """A folder of those files; None is a picture of its own."""
    for place, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str | bytes):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            save(path, unlike(place) if content is None else content)
    return folder


def mask(seed: int, value: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (8, 8), np.uint8) * np.uint8(value)


def pictures(*names: str) -> dict[str, Content]:
    return dict.fromkeys(names)


def notes(pack: object) -> list[str]:
    return [str(note) for note in pack.notes]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("files", "texts", "said"),
    [
        ({**pictures("A.PNG", "B.PNG"), "a.txt": "one", "b.txt": "two"}, [("one",), ("two",)], []),
        (
            {**pictures("1.png", "2.png"), "1.txt": "a cat, (ears:1.2)\nNegative prompt: a\nSteps: 2, S: 1"},
            [("a cat, (ears:1.2)",), ()],
            ["caption with settings of a sampler, such as 1.txt; its prompt alone is read",
             "image without a caption: 1, such as 2.png"],
        ),
        (
            {**pictures("images/1.png"), "labels/1.txt": "0 .5 .5 .2 .2", "classes.txt": "cat"},
            [],
            [".txt file: 2, such as classes.txt; not beside a picture of its name"],
        ),
        (
            {**pictures("1.png", "2.png"), "labels.csv": "1.png,a cat\n2.png,a dog\n"},
            [("a cat",), ("a dog",)],
            ["table without a header, such as labels.csv; read as file_name, text"],
        ),
    ],
)  # fmt: skip
def test_captions(
    files: dict[str, Content], texts: list[tuple[str, ...]], said: list[str], tmp_path: Path
) -> None:
    pack = opened(grow(tmp_path / "d", files))
    assert (list(pack.texts), notes(pack)) == (texts, said)


def test_names_of_cameras_are_no_captions(tmp_path: Path) -> None:
    pack = opened(
        grow(tmp_path / "d", pictures("IMG_2031.png", "0001.png", "a_red-fox (2).png")), captions="name"
    )
    assert list(pack.texts) == [(), (), ("a red fox",)]
    assert notes(pack) == ["image whose name has no words: 2, such as 0001.png"]


@pytest.mark.parametrize("gt", ["ground-truth", "Ground Truth", "Masks", "segmentation_masks", "GT"])
def test_folders_of_masks_by_any_spelling(gt: str, tmp_path: Path) -> None:
    files: dict[str, Content] = {f"Images/{n}.png": None for n in "abc"}
    files |= {f"{gt}/{n}.png": mask(place) for place, n in enumerate("abc")}
    pack = opened(grow(tmp_path / "d", files))
    assert (len(pack), [*pack.described]) == (3, ["mask"])


@pytest.mark.parametrize("place", ["{side}/{kind}/{name}.png", "{kind}/{side}/{name}.png"])
def test_every_side_has_masks_of_its_own_and_the_split_is_kept(place: str, tmp_path: Path) -> None:
    files: dict[str, Content] = {}
    for number, (side, name) in enumerate((side, name) for side in ("train", "val") for name in "ab"):
        files[place.format(side=side, kind="images", name=name)] = unlike(number)
        files[place.format(side=side, kind="masks", name=name)] = mask(number)
    pack = opened(grow(tmp_path / "d", files))
    assert "split as they say" in pack.layout
    for item, name in enumerate(pack.names):
        number = ["train/a", "train/b", "val/a", "val/b"].index(
            "/".join(part for part in name[:-4].split("/") if part != "images")
        )
        np.testing.assert_array_equal(pack.given["mask"][item], mask(number))
        assert (item in pack.held_out) == ("val" in name)


def test_masks_without_pictures_are_no_pictures(tmp_path: Path) -> None:
    files = pictures(*(f"{n}.png" for n in "abcd"))
    files |= {f"{n}_mask.png": mask(place) for place, n in enumerate("abe")}
    pack = opened(grow(tmp_path / "d", files))
    assert pack.names == ["a.png", "b.png", "c.png", "d.png"]
    assert notes(pack) == [
        "mask of no picture, such as e_mask.png; no picture has its name",
        "picture without a mask: 2, such as c.png; trained without conditions",
    ]
    few = opened(grow(tmp_path / "few", {**pictures(*(f"{n}.png" for n in "abcde")), "a_mask.png": mask(0)}))
    assert len(few) == 6
    hint = "it is a picture like the others; masks in a folder masks/ are masks"
    assert notes(few) == [f"picture called like the mask of another, such as a_mask.png; {hint}"]


def test_white_cuts_masks_that_jpeg_blurred(tmp_path: Path) -> None:
    folder = grow(tmp_path / "d", pictures("images/a.png", "images/b.png"))
    whole = np.zeros((8, 8), np.uint8)
    whole[:, 4:] = 255
    (folder / "masks").mkdir()
    Image.fromarray(whole).save(folder / "masks" / "a.jpg", quality=30)
    blurred = np.full((8, 8), 100, np.uint8)
    blurred[2:] = 200
    save(folder / "masks" / "b.png", blurred)
    given = opened(folder, mask_values="white").given["mask"]
    np.testing.assert_array_equal(given, [whole // 255, blurred // 200])


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train_set", "test_set"), ("TRAIN", "Val"), ("train", "eval")],
)
def test_the_split_by_other_names(train: str, test: str, tmp_path: Path) -> None:
    files = pictures(
        *(f"{side}/{kind}/{n}.png" for side in (train, test) for kind in ("cat", "dog") for n in "ab")
    )
    pack = opened(grow(tmp_path / "d", files))
    assert pack.conditions["label"].names == ("cat", "dog")
    assert {pack.names[item].split("/")[0] for item in pack.held_out} == {test}
    old = opened(tmp_path / "d", rules=1)
    known = train.lower() == "train" and test.lower() == "val"
    assert (old.conditions["label"].names == ("cat", "dog")) == known


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file_name,split\na.png,train\nb.png,\nc.png,test\n",
         "column split, such as '', 'test', 'train'; not used: not all of it says train or test, and both"),
        ("file_name,label\na.png,Cat\nb.png,cat\nc.png,dog\n",
         "classes unlike in case or space alone: 2, such as 'Cat', 'cat'; each is a class by itself"),
        (",file_name\n0,a.png\n1,b.png\n2,c.png\n",
         "column without a name, such as 0; it numbers or measures the images; data.attributes may name it"),
    ],
)  # fmt: skip
def test_what_is_odd_in_a_table_is_said(table: str, said: str, tmp_path: Path) -> None:
    files = {**pictures("a.png", "b.png", "c.png"), "metadata.csv": table}
    assert notes(opened(grow(tmp_path / "d", files))) == [said]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.xlsx", "save it as .csv"),
        ("b.rar", "unpack it"),
        ("c.CR2", "export it"),
        ("d.mp4", "save its frames"),
    ],
)
def test_what_would_read_another_kind_is_said(name: str, reason: str, tmp_path: Path) -> None:
    (note,) = notes(opened(grow(tmp_path / "d", {**pictures("a.png"), name: "x"})))
    assert reason in note
    assert name in note


def test_kohyas_projects_and_pictures_beside_its_folders(tmp_path: Path) -> None:
    project = grow(
        tmp_path / "p", pictures("img/9_style/a.png", "model/sample/m.png", "log/l.png", "reg/1_x/r.png")
    )
    pack = opened(project)
    assert pack.names == ["img/9_style/a.png"]
    assert notes(pack) == [
        "image beside kohya's img/: 3, such as log/l.png; regularisation, samples and logs are not used"
    ]
    pack = opened(grow(tmp_path / "d", pictures("10_sks dog/a.png", "5_cat/b.png", "c.png")))
    assert pack.weights is not None
    assert pack.weights.tolist() == [10, 5]
    (said,) = notes(pack)
    assert said.startswith("image beside kohya's folders, such as c.png;")
    most = opened(grow(tmp_path / "e", pictures("3_misc/a.png", *(f"{n}.png" for n in "bcd"))))
    assert len(most) == 4  # then the folder is a name like others


@pytest.mark.parametrize(
    "junk",
    ["#recycle", "$RECYCLE.BIN", "System Volume Information", "@Recycle", "node_modules", "__pycache__"],
)
def test_what_disks_and_programs_leave_is_never_data(junk: str, tmp_path: Path) -> None:
    pack = opened(grow(tmp_path / "d", pictures("a.png", f"{junk}/b.png", f"c/{junk}/d.png")))
    assert pack.names == ["a.png"]
    assert [(note.kind, note.count) for note in pack.notes] == [("hidden or system file", 2)]


def test_what_a_picture_loses_is_said(tmp_path: Path) -> None:
    def saved(name: str, *frames: np.ndarray) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        first, *others = map(Image.fromarray, frames)
        more = {"save_all": True, "append_images": others} if others else {}
        first.save(folder / f"a.{'gif' if others else 'png'}", **more)
        return folder

    deep, film = saved("deep", mask(0, 255).astype(np.uint16) * 16), saved("film", unlike(0), unlike(1))
    clear = saved("clear", np.dstack([unlike(0), mask(0, 255)]))
    for folder, said in (
        (deep, "picture of 16 bits that is dark, of 1 looked at, such as a.png; its brightest grey is "
               "4,080 of 65,535; data.white=measured, or a number"),
        (film, "picture of several frames, of 1 looked at, such as a.gif; the first is taken"),
        (clear, "transparent picture, of 1 looked at, such as a.png; laid on data.background=#ffffff; "
                    "data.channels=4 keeps alpha"),
    ):  # fmt: skip
        assert notes(opened(folder)) == [said]
    assert notes(opened(clear, mask="alpha")) == []
    assert notes(opened(deep, white=4080)) == []
