"""How often images are drawn: kohya's repeats, weights of folders, of paths, and of rows."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data.files import opened, save, unlike
from safelight.checks import images
from safelight.config import UserError, check
from safelight.data import find_source, open_data
from safelight.data.config import Data
from safelight.data.inspection import inspect
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.recipe import load


def drawn(pack: Pack, batches: int, size: int) -> Counter[str]:
    """How often each image is drawn in the first batches."""
    stream = Stream(pack, 0, size)
    items = np.concatenate([stream.items(step, range(size)) for step in range(batches)])
    return Counter(pack.names[item] for item in items)


def test_kohyas_folders_repeat_within_an_epoch(tmp_path: Path) -> None:
    for name in ("img/3_a cat/1.png", "img/3_a cat/2.png", "img/1_dog/3.png", "reg/1_pet/4.png"):
        save(tmp_path / name)
    (tmp_path / "img" / "3_a cat" / "1.txt").write_text("tabby, grey")
    pack = opened(tmp_path, held_out=0)
    assert pack.names == ["img/1_dog/3.png", "img/3_a cat/1.png", "img/3_a cat/2.png"]
    assert pack.conditions["label"].names == ("a cat", "dog")
    assert list(pack.texts) == [("dog",), ("tabby, grey",), ("a cat",)]
    assert drawn(pack, 1, 7) == {"img/1_dog/3.png": 1, "img/3_a cat/1.png": 3, "img/3_a cat/2.png": 3}
    assert drawn(pack, 7, 2) == {name: 2 * count for name, count in drawn(pack, 1, 7).items()}
    assert [note.kind for note in pack.notes] == ["image beside kohya's img/"]


def test_folders_that_are_merely_numbered_are_names(tmp_path: Path) -> None:
    for name in ("0_cat/1.png", "1_dog/2.png", "2_emu/3.png"):
        save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.weights is None
    assert pack.conditions["label"].names == ("0_cat", "1_dog", "2_emu")
    (tmp_path / "0_cat").rename(tmp_path / "5_cat")
    assert opened(tmp_path).conditions["label"].names == ("cat", "dog", "emu")
    assert opened(tmp_path, layout="classes").conditions["label"].names == ("1_dog", "2_emu", "5_cat")


def test_paths_have_the_shares_that_weights_state(tmp_path: Path) -> None:
    for name in ("a/x/1.png", "b/x/2.png", "b/y/3.png", "b/y/4.png"):
        save(tmp_path / name)
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    keys = {"path": paths, "weights": [1, 3], "held_out": 0}
    pack = open_data(check(Data, keys, "data"))
    assert pack.names == ["a/x/1.png", "b/x/2.png", "b/y/3.png", "b/y/4.png"]
    assert pack.conditions["label"].names == ("x", "y")
    assert pack.given["label"].tolist() == [0, 0, 1, 1]
    assert pack.weights is None  # three times the share for three times the images: all alike
    pack = open_data(check(Data, keys | {"weights": [1, 1]}, "data"))
    shares = drawn(pack, 200, 20)
    assert shares["a/x/1.png"] / 4000 == pytest.approx(1 / 2, abs=0.03)
    stream = Stream(pack, 0, 20)
    np.testing.assert_array_equal(stream.items(9, range(5, 10)), stream.items(9, range(20))[5:10])
    with pytest.raises(UserError, match="states 3 shares for 2 paths"):
        check(Data, keys | {"weights": [1, 1, 1]}, "data")


def test_weights_by_folder_and_by_row(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        save(tmp_path / name)
    assert drawn(opened(tmp_path, held_out=0, weights={"a": 0, "b": 2}), 1, 8) == {"b/2.png": 4, "b/3.png": 4}
    with pytest.raises(UserError, match=r"^data\.weights: .* has no folder 'c'"):
        opened(tmp_path, weights={"c": 2})
    (tmp_path / "metadata.csv").write_text("file_name,often\na/1.png,2\nb/2.png,\nb/3.png,1\n")
    pack = opened(tmp_path, held_out=0, weights="often")
    assert drawn(pack, 1, 4) == {"a/1.png": 2, "b/2.png": 1, "b/3.png": 1}
    assert "attributes" not in pack.described
    assert pack.fingerprint != opened(tmp_path, held_out=0, attributes=[]).fingerprint


def test_several_paths_on_the_command_line_are_folders_whatever_the_recipe_had(tmp_path: Path) -> None:
    paths = [str(save(tmp_path / name / "1.png").parent) for name in ("a", "b")]
    recipe = load("fashion", {"data.path": paths})
    assert (recipe.data.source, recipe.data.paths) == ("folder", tuple(paths))
    with pytest.raises(
        UserError, match=r"^data\.path: idx takes one path; several are for folders and archives"
    ):
        find_source(recipe.data.model_copy(update={"source": "idx"}))


def test_groups_keep_all_images_of_a_person_on_one_side(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for person in range(12):
        for number in range(5):
            save(photos / f"smile/p{person:02d}" / f"p{person:02d}_{number}.png", unlike(person * 5 + number))
    rows = [f"smile/p{p:02d}/p{p:02d}_{n}.png,person {p}" for p in range(12) for n in range(5)]
    by_column = tmp_path / "table"
    shutil.copytree(photos, by_column)
    (by_column / "metadata.csv").write_text("\n".join(["file_name,who", *rows]))
    for path, group in ((photos, "folder"), (photos, r"/(p\d+)_\d"), (by_column, "who")):
        pack = opened(path, held_out=0.3, group=group)
        sides = [{pack.names[item].split("/")[1] for item in items} for items in (pack.train, pack.held_out)]
        assert all(sides)
        assert not sides[0] & sides[1]
        assert pack.groups is not None
        assert len(np.unique(pack.groups)) == 12
        assert "12 groups" in pack.description()
        facts = inspect(check(Data, {"path": str(path), "group": group}, "data")).facts()
        assert (facts["groups"]["groups"], facts["groups"]["images"]) == (12, 5)
    assert "attributes" not in pack.described
    alone = opened(photos, held_out=0.3)
    assert {alone.names[item].split("/")[1] for item in alone.train} == sides[0] | sides[1]
    assert alone.fingerprint != opened(photos, held_out=0.3, group="folder").fingerprint
    half = opened(photos, held_out=0.3, group=r"(p0\d)_")  # the others are split by themselves
    assert half.groups is not None
    assert len(np.unique(half.groups)) == 10 + 2 * 5
    assert [(note.kind, note.count) for note in half.notes] == [("image of no group", 10)]
    for group, message in (
        ("(x)", "finds no group among 60 images"),
        ("^(smile)", "finds one group among 60"),
        ("p0_", "names a column, but"),
        ("(", "is no regular expression"),
        ("(?:p)", "has no group"),
    ):
        with pytest.raises(UserError, match=rf"^data\.group: .*{message}"):
            open_data(check(Data, {"path": str(photos), "group": group}, "data"))
    with pytest.raises(UserError, match=r"^data\.group: digits has none"):
        find_source(check(Data, {"source": "digits", "group": "folder"}, "data"))


def test_a_leak_of_groups_is_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for person in range(9):
        for side in ("train", "test"):
            save(photos / side / f"p{person}_{side}.png", unlike(person + 10 * (side == "test")))
    subject = SimpleNamespace(pack=opened(photos, group=r"(p\d)_"))
    leaks = [finding for finding in images.check(subject) if finding.code == "held-out-leaked"]  # type: ignore[arg-type]
    assert [leak.measured for leak in leaks] == [
        "9 of 9 held-out images are of a group (data.group) that is also trained on"
    ]
