"""Tables beside images: which columns mean what, which file a row is of, and what is refused."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data.files import opened, save
from safelight.config import UserError
from safelight.data.pack import Pack


def labels_of(pack: Pack) -> list[str | None]:
    names = pack.conditions["label"].names
    rows = zip(pack.given["label"], pack.covered["label"], strict=True)
    return [names[label] if there else None for label, there in rows]


def test_columns_are_known_by_name(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png", "extra.png"):
        save(tmp_path / name)
    for name, level in (("a", 0), ("c", 3)):
        save(tmp_path / "masks" / f"{name}.png", np.full((8, 8), level, np.uint8))
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,mask,hair,text,text,mouth,id,note,caption_2\n"
        'a.png,cat,masks/a.png,.5,"a cat, grey",A cat.,1,17,good,\n'
        "sub/c.png,dog,masks/c.png,0.25,a dog,,-2e-1,18,bad,hot\n"
        "b.png,,,,nothing,,3,19,,\n"
    )
    pack = opened(tmp_path)
    assert pack.names == ["a.png", "b.png", "sub/c.png"]
    assert labels_of(pack) == ["cat", None, "dog"]
    assert pack.conditions["attributes"].names == ("hair", "mouth")  # numbers, but for those that count
    assert pack.covered["attributes"].tolist() == [True, False, True]
    np.testing.assert_allclose(pack.given["attributes"][[0, 2]], [[0.5, 1], [0.25, -0.2]], rtol=1e-6)
    assert list(pack.texts) == [("a cat, grey", "A cat."), ("nothing",), ("a dog", "hot")]
    assert pack.covered["mask"].tolist() == [True, False, True]
    assert pack.given["mask"][[0, 2], 0, 0].tolist() == [0, 3]
    assert pack.present.tolist() == [True, False, True]


def test_the_recipe_says_otherwise(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/b.png"):
        save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text(
        "file_name,breed,label,weight,height_cm,title,text\nx/a.png,tabby,1,4,20,Tom,t\ny/b.png,corgi,2,9,30,Rex,u\n"
    )
    pack = opened(tmp_path, label="breed", attributes=["height_cm"], text=["title"])
    assert labels_of(pack) == ["tabby", "corgi"]
    assert pack.conditions["attributes"].names == ("height_cm",)
    assert list(pack.texts) == [("Tom",), ("Rex",)]
    assert labels_of(opened(tmp_path, label="folder")) == ["x", "y"]
    bare = opened(tmp_path, labels=False, attributes=[])
    assert not bare.conditions
    for key, value in (("label", "bread"), ("attributes", ["bread"]), ("text", "bread"), ("mask", "bread")):
        with pytest.raises(
            UserError, match=rf"^data\.{key}: there is no column 'bread' \(did you mean 'breed'"
        ):
            opened(tmp_path, **{key: value})
    with pytest.raises(UserError, match=r"metadata\.csv:2: attribute title is 'Tom'; expected a number"):
        opened(tmp_path, attributes=["title"])


def test_jsonl_has_lists_of_captions_and_values_of_their_own_types(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "label": 10, "captions": ["one", "two"], "smile": True, "box": {"x": 1}},
        {"file_name": "b.png", "label": 9, "captions": "three", "smile": 0.5},
        {"file_name": "c.png", "label": None, "captions": [], "smile": None},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    for row in rows:
        save(tmp_path / str(row["file_name"]))
    pack = opened(tmp_path)
    assert pack.conditions["label"].names == ("9", "10")  # numbers are ordered as numbers
    assert labels_of(pack) == ["10", "9", None]
    assert list(pack.texts) == [("one", "two"), ("three",), ()]
    assert pack.given["attributes"][:2].tolist() == [[1.0], [0.5]]
    assert pack.covered["attributes"].tolist() == [True, True, False]


def test_rows_of_one_image_gather_its_captions(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,caption,age\nb.png,x,3\na.png,one,2\na.png,two,2\n")
    assert list(opened(tmp_path).texts) == [("one", "two"), ("x",)]
    path.write_text("file_name,caption,age\nb.png,x,3\na.png,one,2\na.png,two,4\n")
    with pytest.raises(UserError, match=r"metadata\.csv:4: disagrees with metadata\.csv:3 on a\.png"):
        opened(tmp_path)


def test_metadata_stand_in_each_split(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("test", "cd")):
        for name in names:
            save(tmp_path / split / "images" / f"{name}.png")
        rows = "".join(f"images/{name}.png,{ord(name) % 2}\n" for name in names)
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\n{rows}")
    pack = opened(tmp_path)
    assert sorted(pack.names[item] for item in pack.held_out) == ["test/images/c.png", "test/images/d.png"]
    assert labels_of(pack) == ["1", "0", "1", "0"]


def test_a_column_says_the_split(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name,split\na.png,train\nb.png,Validation\nc.png,train\n")
    pack = opened(tmp_path)
    assert [pack.names[item] for item in pack.held_out] == ["b.png"]
    assert not pack.conditions


@pytest.mark.parametrize(
    "name", ["фото.png", "写真 1.png", "صورة.png", "naïve.png", "a,b.png", 'q"uote.png', "🙂.png", " .png"]
)
def test_names_in_any_script(tmp_path: Path, name: str) -> None:
    save(tmp_path / "x" / name)
    save(tmp_path / "x" / "plain.png")
    quoted = '"' + name.replace('"', '""') + '"'
    text = f"file_name,label\n{quoted},{name[0]}\nplain.png,plain\n"
    (tmp_path / "x" / "metadata.csv").write_text(text, encoding="utf-8-sig")
    pack = opened(tmp_path)
    assert sorted(pack.names) == sorted(["x/plain.png", f"x/{name}"])


def test_a_composed_name_finds_a_decomposed_file_and_backslashes_are_folders(tmp_path: Path) -> None:
    save(tmp_path / "d" / unicodedata.normalize("NFD", "é.png"))
    save(tmp_path / "d" / "b.png")
    composed = unicodedata.normalize("NFC", "é.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,label\nd/{composed},1\nd\\b.png,2\n")
    assert labels_of(opened(tmp_path)) == ["2", "1"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_no_text_is_packed_and_shown_escaped(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "p")
    for name, content in ((b"\xff\xfe.png", save(tmp_path / "x.png").read_bytes()), (b"bad\n\x80.png", b"")):
        with open(os.path.join(os.fsencode(tmp_path / "p"), name), "wb") as file:
            file.write(content)
    with pytest.raises(UserError) as error:
        opened(tmp_path / "p")
    assert r"bad\n\udc80.png (not an image)" in str(error.value)
    str(error.value).encode()
    pack = opened(tmp_path / "p", skip_bad=True)
    assert [os.fsencode(name) for name in pack.names] == [b"\xff\xfe.png"]


def test_files_that_are_named_and_missing_are_bad(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/b.png", "secret.png"):
        save(tmp_path / name)
    (tmp_path / "in" / "metadata.csv").write_text(
        "file_name,mask_file_name,label\na.png,,1\nb.png,m.png,2\ngone.png,,1\n../secret.png,,2\n"
        f"{tmp_path}/secret.png,,2\n,,3\n"
    )
    with pytest.raises(UserError, match=r"4 of 5 images cannot be used: ") as error:
        opened(tmp_path / "in")
    for part in (
        "../secret.png (metadata.csv:5: leads out of the folder)",
        "/secret.png (metadata.csv:6: leads out of the folder)",
        "gone.png (metadata.csv:4: is not there",
        "m.png (metadata.csv:3: is not there",
    ):
        assert part in str(error.value)
    pack = opened(tmp_path / "in", skip_bad=True)
    assert pack.names == ["a.png"]
    assert len(pack.bad) == 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metadata.csv", b"", r"metadata\.csv: has no column file_name, only none"),
        ("metadata.csv", b"title;label\na.png;1\n", r"no column file_name, only 'title', 'label'"),
        ("metadata.csv", b"file_name,label\na.png,1,2\n", r"metadata\.csv:2: has 3 values for 2 columns"),
        ("metadata.csv", b"file_name\n\xff\xfe\n", r"metadata\.csv: is not UTF-8 text; save it"),
        ("metadata.csv", b'file_name\n"a.png\n', r"metadata\.csv:\d: is not CSV"),
        ("metadata.jsonl", b'{"file_name": "a.png"\n', r"metadata\.jsonl:1: is not JSON"),
        ("metadata.jsonl", b'\n["a.png"]\n', r"metadata\.jsonl:2: is not an object"),
        ("metadata.jsonl", b'{"file_name": 3}\n', r"metadata\.jsonl:1: file_name is 3; expected the name"),
        ("metadata.jsonl", b'{"file_name": "a.png", "label": [1]}', r"label is \[1\]; expected one class"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": [{}]}', r"text is \{\}; expected text"),
        ("metadata.jsonl", b"[" * 100_000, r"metadata\.jsonl:1: is not JSON"),
        (
            "metadata.csv",
            b"file_name\ngone.png\n",
            r"none of the images named there can be taken, first gone",
        ),
    ],
)
def test_metadata_that_cannot_be_understood_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    save(tmp_path / "a.png")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_two_kinds_of_metadata_in_one_folder_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name\na.png\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(UserError, match=r"has metadata\.csv and metadata\.jsonl; keep one"):
        opened(tmp_path)


def test_a_layout_can_be_asked_for(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/b.png"):
        save(tmp_path / name)
    with pytest.raises(UserError, match=r"data\.layout: .* has no metadata\.csv"):
        opened(tmp_path, layout="metadata")
    with pytest.raises(UserError, match=r"data\.label: names a column, but .* has no metadata\.csv"):
        opened(tmp_path, label="breed")
    (tmp_path / "metadata.csv").write_text("file_name,label\nx/a.png,1\ny/b.png,2\n")
    assert opened(tmp_path).conditions["label"].names == ("1", "2")
    assert opened(tmp_path, layout="classes").conditions["label"].names == ("x", "y")


def test_changed_metadata_make_another_pack(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,label\na.png,1\nb.png,2\n")
    before = opened(tmp_path)
    path.write_text("file_name,label\na.png,2\nb.png,1\n")
    os.utime(path, ns=(1, 1))
    after = opened(tmp_path)
    assert labels_of(after) == ["2", "1"]
    assert after.fingerprint != before.fingerprint
