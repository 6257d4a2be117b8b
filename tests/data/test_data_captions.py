"""Captions beside pictures, in their names, and of tags in several orders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.files import opened, save
from safelight.config import UserError
from safelight.data.captions import of_name, orders
from safelight.data.stream import Stream
from safelight.language import open_encoder


def test_captions_are_read_beside_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.png", "d.png", "e.png", "images/f.png"):
        save(tmp_path / name)
    (tmp_path / "a.txt").write_text("\ufefffirst\n\n second \n", encoding="utf-8")
    (tmp_path / "b.jpg.caption").write_text("one")
    (tmp_path / "c.json").write_text(json.dumps({"caption": ["x", "y"], "label": 3}))
    (tmp_path / "d.json").write_text(json.dumps({"tags": ["p", "q"]}))
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "f.txt").write_text("aside")
    (tmp_path / "notes.txt").write_text("nobody's")
    pack = opened(tmp_path)
    assert list(pack.texts) == [("first", "second"), ("one",), ("x", "y"), ("p, q",), (), ("aside",)]
    assert {note.kind: note.example for note in pack.notes} == {
        "image without a caption": "e.png", ".txt file": "notes.txt",
    }  # fmt: skip
    assert not any(opened(tmp_path, captions="none").texts)
    assert opened(tmp_path, captions="name").texts[5] == ("f",)


def test_boxes_beside_pictures_are_no_captions(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 1e-3\n3 0.1 0.2 0.3 0.4\n")
    pack = opened(tmp_path)
    assert not any(pack.texts)
    assert [note.kind for note in pack.notes] == [".txt file of numbers"]
    with pytest.raises(UserError, match=r"^data\.captions: no file beside the images of .* holds words"):
        opened(tmp_path, captions="sidecar")


def test_a_table_goes_before_files_beside_pictures_unless_the_recipe_says_so(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("beside")
    (tmp_path / "metadata.csv").write_text("file_name,text,prompt\na.png,table,column\n")
    assert list(opened(tmp_path).texts) == [("table",)]
    assert list(opened(tmp_path, captions="sidecar").texts) == [("beside",)]
    assert list(opened(tmp_path, captions="prompt").texts) == [("column",)]


def test_names_are_words() -> None:
    names = {
        "x/a_red-fox (2).png": "a red fox",
        "fox_003.jpg": "fox",
        "007.png": "",
        "Grün+blau.png": "Grün blau",
    }
    assert {name: of_name(name) for name in names} == names


def test_orders_are_permutations_that_depend_on_the_caption_alone() -> None:
    text = "a, b, c, d"
    made = orders(text, 6, keep=1)
    assert made[0] == text
    assert made == orders(text, 6, keep=1)
    assert all(
        sorted(order.split(", ")) == ["a", "b", "c", "d"] and order.startswith("a, ") for order in made
    )
    assert len(set(made)) > 2
    assert orders("one tag", 3) == ["one tag"] * 3


def test_a_step_draws_its_order_of_tags(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"red, thing, number {number}, on white")
    pack = opened(tmp_path, held_out=0, shuffle_tags=5, text_encoder="words")
    assert [len(texts) for texts in pack.texts] == [5, 5, 5]
    encode = open_encoder("words").encode
    np.testing.assert_array_equal(
        pack.given["text"], encode([text for texts in pack.texts for text in texts])
    )
    stream = Stream(pack, 0, 3)
    whole, part = stream.batch(7, range(3)), stream.batch(7, range(1, 3))
    np.testing.assert_array_equal(whole.given["text"][1:], part.given["text"])
    seen = {bytes(stream.batch(step, range(3)).given["text"].numpy().tobytes()) for step in range(6)}
    assert len(seen) > 1
