"""A folder with every kind of condition: packed, trained on, sampled from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.files import save
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.run import Run
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

UNET = {"network": {"name": "unet", "width": 8, "multipliers": [1], "middle": 1}, "sample.steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures that their conditions describe: a square on the left or right, its grey, its mask."""
    folder = tmp_path_factory.mktemp("squares")
    rows = []
    for number in range(40):
        grey, right = 80 + 4 * number, number % 2
        ids = np.zeros((8, 8), np.uint8)
        ids[2:6, 4 * right : 4 * right + 4] = 1
        save(folder / f"{number:02d}.png", ids * np.uint8(grey))
        save(folder / "masks" / f"{number:02d}.png", ids * np.uint8(255))
        mask = f"masks/{number:02d}.png" if number % 10 else ""
        rows.append(f"{number:02d}.png,{'right' if right else 'left'},{grey / 255:.3f},{mask}")
    (folder / "metadata.csv").write_text("file_name,label,grey,mask\n" + "\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained where the folder is, by its bare name."""
    changes = {**TINY, **UNET, "data.path": folder.name, "data.flip": True}
    del changes["network.width"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        directory = begin(
            load("digits", changes), tmp_path_factory.mktemp("runs"), "squares", World(), Show()
        )
    return Run(directory)


def test_a_run_goes_on_from_anywhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    resume(run.directory, World(), Show(tell=lines.append))
    assert run.directory.info().facts.data["name"] == "squares0"
    assert any("report" in line for line in lines)


def test_the_run_knows_its_conditions_and_draws_its_sheets(run: Run) -> None:
    assert {name: condition.size for name, condition in run.model.spec.conditions.items()} == {
        "label": 2, "attributes": 1, "mask": 2
    }  # fmt: skip
    assert sorted(path.name for path in run.directory.sheets.glob("*.png")) == [
        "00000020.png",
        "00000030.png",
    ]


def test_samples_take_conditions_of_every_kind(run: Run, folder: Path, tmp_path: Path) -> None:
    samples = run.sample(5, label="left", grey=0.5, mask=str(folder / "masks" / "01.png"))
    assert samples.given["label"].tolist() == [0] * 5
    assert samples.given["attributes"].tolist() == [[0.5]] * 5
    want = np.zeros((8, 8))
    want[2:6, 4:8] = 1
    np.testing.assert_array_equal(samples.given["mask"][3], [1 - want, want])
    assert samples.present.all()
    with np.load(samples.save(tmp_path / "s.npz")) as arrays:
        assert arrays["mask"].shape == (5, 2, 8, 8)
    other = run.sample(5, conditions={"label": "left", "grey": 0.9, "mask": str(folder / "masks" / "01.png")})
    assert other.given["attributes"].tolist() == [[np.float32(0.9)]] * 5
    assert not run.sample(3, mask="none").present.any()


def test_what_is_not_mentioned_comes_from_held_out_items(run: Run) -> None:
    samples = run.sample(4)
    pack = run.model.data.stream().pack
    items = [item for item in pack.held_out if pack.present[item]]
    want = np.resize(items, 4)
    np.testing.assert_array_equal(samples.given["label"], pack.given["label"][want])
    np.testing.assert_array_equal(samples.given["mask"].argmax(1), pack.given["mask"][want])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no.png", "there is no such file"),
        ("metadata.csv", "not an image"),
        ("two.png", "holds class 7, but the data"),
    ],
)
def test_a_mask_that_cannot_be_used_is_one_line(run: Run, folder: Path, name: str, says: str) -> None:
    save(folder / "two.png", np.full((8, 8), 7, np.uint8))
    with pytest.raises(UserError, match=rf"^condition mask=.*{name}: .*{says}") as error:
        run.sample(1, mask=str(folder / name))
    (folder / "two.png").unlink()
    assert "\n" not in str(error.value)
