"""safelight data inspect and pack, as a person meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import run
from data.files import save
from safelight.data import open_data
from safelight.data.config import Data

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Exit code, stdout and stderr of `safelight data WORDS`, run in a folder of its own."""
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return partial(run, monkeypatch, capsys, "data")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images of two classes, one a copy in another format, one grey and larger; a bad file, a note."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in ("cats/a.png", "cats/b.png", "dogs/c.png"):
        save(folder / name, rng.integers(0, 256, (8, 8, 3), np.uint8))
    with Image.open(folder / "cats" / "a.png") as image:
        image.save(folder / "dogs" / "copy.bmp")
    save(folder / "dogs" / "grey.png", np.zeros((16, 12), np.uint8))
    save(folder / "loose.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
    (folder / "dogs" / "broken.jpg").write_text("no")
    (folder / "notes.txt").write_text("no")
    return folder


def test_inspect_tells_what_is_there(command: Command, photos: Path, tmp_path: Path) -> None:
    code, out, err = command("inspect", "photos", "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed["path"] == str(photos)
    assert printed["images"] == 6
    assert printed["sizes"] == [
        {"height": 8, "width": 8, "images": 5},
        {"height": 16, "width": 12, "images": 1},
    ]
    assert printed["modes"] == {"RGB": 5, "L": 1}
    assert printed["formats"] == {"PNG": 5, "BMP": 1}
    assert printed["conditions"] == {"label": {"images": 5, "classes": {"cats": 2, "dogs": 3}}}
    assert printed["with_all_conditions"] == 5
    assert printed["copies"] == {"images": 1, "of": 1, "first": [["cats/a.png", "dogs/copy.bmp"]]}
    assert printed["bad"] == ["dogs/broken.jpg (not an image)"]
    note = {
        "kind": ".txt file",
        "count": 1,
        "example": "notes.txt",
        "reason": "not beside a picture of its name",
    }
    assert printed["notes"] == [note]
    assert printed["split"] is None
    with Image.open(tmp_path / printed["sheet"]) as sheet:
        assert sheet.format == "PNG"
    assert not (tmp_path / "cache" / "packs").exists()


def test_inspect_tells_people_too(command: Command, photos: Path, tmp_path: Path) -> None:
    code, out, err = command("inspect", "photos", "--sheet", "s.png")
    assert (code, err) == (0, "")
    for words in (
        "photos: 6 images, 1 bad file\n",
        "8x8 (5), 16x12 (1); heights 8 to 16, widths 8 to 12; state data.size, such as data.size=8",
        "2 classes: cats 2, dogs 3, on 5 of 6 images",
        "5 images have every condition; 1 train unconditionally",
        "1 image with the pixels of another: cats/a.png = dogs/copy.bmp",
        "dogs/broken.jpg (not an image)",
        "sheet:       s.png",
    ):
        assert words in out
    assert (tmp_path / "s.png").is_file()


def test_inspect_tells_conditions_of_every_kind(command: Command, tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "d" / f"{name}.png")
        save(tmp_path / "d" / "m" / f"{name}.png", np.full((8, 8), 2, np.uint8))
    rows = "a.png,.5,m/a.png,one,two\nb.png,-1,m/b.png,three,\nc.png,,m/c.png,,\n"
    (tmp_path / "d" / "metadata.csv").write_text(f"file_name,hair,mask,text_1,text_2\n{rows}")
    save(tmp_path / "d" / "unnamed.png")
    _, out, _ = command("inspect", "d", "--json")
    printed = json.loads(out)
    assert printed["conditions"]["attributes"] == {
        "images": 2,
        "attributes": {"hair": {"least": -1.0, "mean": -0.25, "most": 0.5}},
    }
    assert printed["conditions"]["mask"] == {"images": 3, "classes": 3, "numbers": [2]}
    assert printed["captions"] == {"captions": 3, "images": 2}
    assert printed["with_all_conditions"] == 2
    (note,) = printed["notes"]
    assert (note["kind"], note["count"], note["example"]) == (
        "image that the metadata do not name", 1, "unnamed.png",
    )  # fmt: skip
    _, out, _ = command("inspect", "d")
    assert "hair -1 to 0.5, on 2 of 3 images" in out
    assert "3 classes, on 3 of 3 images" in out
    assert "3 on 2 images" in out


def test_inspect_on_several_processes_is_the_same(command: Command, tmp_path: Path) -> None:
    for number in range(150):
        save(tmp_path / "d" / f"{number}.png", np.full((8, 8), number, np.uint8))
    alone, several = (command("inspect", "d", "--processes", count, "--json")[1] for count in "12")
    assert alone == several
    assert json.loads(alone)["images"] == 150


def test_pack_makes_what_training_finds(command: Command, photos: Path) -> None:
    keys = ("data.size=8", "skip_bad=true", "data.held_out=0.3")
    code, out, err = command("pack", "photos", *keys, "--json")
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert (made["images"], made["shape"]) == (6, [3, 8, 8])
    assert made["left_out"] == ["dogs/broken.jpg (not an image)"]

    def never(what: str, done: int, total: int) -> None:
        raise AssertionError(f"{what}: packed again")

    pack = open_data(Data(path=str(photos), size=8, skip_bad=True), never)
    assert str(pack.folder) == made["folder"]
    assert pack.fingerprint == made["fingerprint"]
    _, out, _ = command("pack", "photos", *keys)
    assert (
        f"safelight train RECIPE data.source=folder data.path={photos} data.size=8 data.skip_bad=true" in out
    )


def test_a_name_of_shipped_data_is_enough(command: Command) -> None:
    _, out, _ = command("pack", "digits", "size=8", "--json")
    assert json.loads(out)["shape"] == [1, 8, 8]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pack", "photos", "size=8"), "1 of 7 images cannot be used: dogs/broken.jpg (not an image)"),
        (("pack", "photos", "optim.lr=1"), "optim.lr: only keys of [data] can be changed here"),
        (("pack", "photos", "data.sise=8"), "data.sise: no such key (did you mean 'data.size'?)"),
        (("inspect", "nothing"), "does not exist; give the folder or archive"),
        (
            ("inspect", "photos", "--sheet", "photos/notes.txt/s.png"),
            "photos/notes.txt/s.png: is there already",
        ),
    ],
)
def test_a_mistake_is_one_line(command: Command, photos: Path, words: tuple[str, ...], says: str) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_packing_and_inspecting_do_without_torch(photos: Path, tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from safelight.cli import app\n"
        f"sys.argv = ['safelight', 'data', 'pack', {str(photos)!r}, 'size=8', 'skip_bad=true']\n"
        "try: app()\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
