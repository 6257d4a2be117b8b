"""Data sets of the Hub, here as its own library saves them; nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data

N = 140  # three blocks of work
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8)


def test_a_missing_package_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r'^data\.source = "hub" needs the package datasets; run: .* -m pip install'
    ):
        open_data(Data(source="hub", path="someone/pictures"))


def test_a_name_stays_a_name_and_a_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Data(source="hub", path="someone/pictures").path == "someone/pictures"
    assert Data(source="hub", path="./pictures").path == str(tmp_path / "pictures")
    with pytest.raises(UserError, match=r'data\.source: "hub" needs data\.path, owner/name'):
        open_data(Data(source="hub"))


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with every kind of column, written by its library."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    masks = [Image.fromarray(np.full((8, 8), row % 3, np.uint8)) if row % 4 else None for row in range(N)]
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=["zebra", "ant", "unused"]),
            "captions": datasets.Sequence(datasets.Value("string")),
            "hair": datasets.Value("float32"),
            "license": datasets.Value("string"),
        }
    )

    def part(rows: range) -> object:
        columns = {
            "photo": [Image.fromarray(PIXELS[row]) for row in rows],
            "mask": [masks[row] for row in rows],
            "label": [row % 2 for row in rows],
            "captions": [[f"no. {row}"] * (row % 3) for row in rows],
            "hair": [row / 10 for row in rows],
            "license": ["CC0"] * len(rows),
        }
        return datasets.Dataset.from_dict(columns, features=features)

    whole = datasets.DatasetDict({"train": part(range(100)), "validation": part(range(100, N))})
    whole.save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_every_kind_of_column(saved: Path) -> None:
    pack = open_data(Data(source="hub", path=str(saved)))
    assert pack.names[:2] == ["train/000", "train/001"]
    np.testing.assert_array_equal(pack.images, PIXELS)
    assert pack.conditions["label"].names == ("zebra", "ant", "unused")  # the library's order
    assert pack.given["label"].tolist() == [0, 1] * (N // 2)
    assert pack.conditions["attributes"].names == ("hair",)
    np.testing.assert_allclose(pack.given["attributes"][:, 0], np.arange(N) / 10, rtol=1e-6)
    assert [len(captions) for captions in pack.texts] == [row % 3 for row in range(N)]
    assert pack.covered["mask"].tolist() == [row % 4 > 0 for row in range(N)]
    assert pack.given["mask"][5, 0, 0] == 2
    assert sorted(pack.held_out) == list(range(100, N))


def test_several_processes_read_it_without_the_library_loading_it_again(saved: Path) -> None:
    pack = open_data(Data(source="hub", path=str(saved), size=4), processes=2)
    alone = open_data(Data(source="hub", path=str(saved), size=(4, 4)), processes=1)
    assert pack.fingerprint == alone.fingerprint


def test_a_repository_of_files_as_the_hub_keeps_them(saved: Path, tmp_path: Path) -> None:
    """What load_dataset finds in a folder is what it finds in a download of one."""
    import datasets

    want = open_data(Data(source="hub", path=str(saved)))
    for split, table in datasets.load_from_disk(str(saved)).items():
        table.to_parquet(str(tmp_path / "repository" / "data" / f"{split}-00000-of-00001.parquet"))
    pack = open_data(Data(source="hub", path=str(tmp_path / "repository")))
    assert pack.fingerprint == want.fingerprint


def test_columns_the_recipe_names(saved: Path) -> None:
    pack = open_data(Data(source="hub", path=str(saved), label="license", mask="none", attributes=()))
    assert not pack.conditions  # one class tells nothing apart
    with pytest.raises(UserError, match=r"^data\.mask: 'hair' is no column of images"):
        open_data(Data(source="hub", path=str(saved), mask="hair"))


def test_what_cannot_be_loaded_is_one_clear_line(saved: Path, tmp_path: Path) -> None:
    for path in sorted((saved / "train").glob("*.arrow")):
        path.write_bytes(b"ARROW1" + bytes(50))
    with pytest.raises(UserError, match=r"cannot be loaded from the Hub \(") as error:
        open_data(Data(source="hub", path=str(saved)))
    assert "\n" not in str(error.value)


def test_a_data_set_without_images_says_what_it_has(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "words"))
    with pytest.raises(UserError, match="has no column of images, only text"):
        open_data(Data(source="hub", path=str(tmp_path / "words")))
