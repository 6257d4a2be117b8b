from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safelight.config import UserError, check
from safelight.data import open_data
from safelight.data.config import Data
from safelight.keys import meanings


def test_a_path_alone_means_a_folder() -> None:
    assert check(Data, {"path": "photos/"}, "data").source == "folder"
    assert check(Data, {"source": "digits", "path": "photos/"}, "data").source == "folder"
    assert check(Data, {"source": "mnist", "path": "downloads/"}, "data").source == "mnist"
    assert check(Data, {}, "data").source == "digits"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("photos", "folder"),
        ("photos.zip", "folder"),
        ("a/b.npz", "arrays"),
        ("b.NPY", "arrays"),
        ("train-images-idx3-ubyte.gz", "idx"),
        ("images.idx", "idx"),
    ],
)
def test_a_path_tells_the_source_by_its_ending(path: str, source: str) -> None:
    assert check(Data, {"path": path}, "data").source == source


def test_a_path_is_recorded_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert Data(path="photos/../more").path == str(tmp_path / "more")
    assert Data(path="~/photos").path == "/home/someone/photos"
    assert Data(path="/photos").path == "/photos"
    assert Data(path="p", text_features="clip.npy").text_features == str(tmp_path / "clip.npy")
    data = Data(path="photos")
    monkeypatch.chdir("/")
    assert check(Data, data.model_dump(mode="json"), "data") == data  # read back from anywhere


def test_a_column_without_metadata_is_refused() -> None:
    for source, path in (("digits", None), ("mnist", "x"), ("idx", "x")):
        with pytest.raises(UserError, match=rf"^data\.attributes: names a column, but {source} has none"):
            open_data(check(Data, {"source": source, "path": path, "attributes": ["a"]}, "data"))


def test_reading_back_what_was_written_changes_nothing() -> None:
    data = check(Data, {"path": "photos/", "size": [64, 48]}, "data")
    assert check(Data, data.model_dump(mode="json"), "data") == data


def test_size_is_one_number_or_height_and_width() -> None:
    assert check(Data, {"size": 32}, "data").height_width == (32, 32)
    assert check(Data, {"size": [64, 48]}, "data").height_width == (64, 48)
    assert check(Data, {}, "data").height_width is None


@pytest.mark.parametrize("size", ["big", 0, -3, [1, 2, 3], [64, "x"], True, []])
def test_any_other_size_is_one_clear_line(size: object) -> None:
    with pytest.raises(
        UserError, match=r"^data\.size: .* should be pixels, such as 64, or \[height, width\]"
    ):
        check(Data, {"size": size}, "data")


def test_a_folder_without_a_path_says_what_is_missing() -> None:
    """When the data are opened: a shipped recipe may leave the path to its user."""
    with pytest.raises(UserError, match=r"^data\.source: \"folder\" needs data\.path"):
        open_data(check(Data, {"source": "folder"}, "data"))


def test_every_key_is_described() -> None:
    assert meanings(Data).keys() == Data.model_fields.keys()


def test_importing_the_section_imports_nothing_heavy() -> None:
    code = "import sys, safelight.data; print({'torch', 'sklearn', 'PIL', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
