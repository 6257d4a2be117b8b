"""What is in examples/ runs, cell by cell and script by script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from safelight.data import open_data
from safelight.data.config import Data

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in shown if "data" in output for kind in output.data}
    assert {"text/html", "image/png"} <= kinds
    assert "collapse" not in str(shown)  # so young a run is not judged


METHODS = sorted(path for path in EXAMPLES.glob("*.py") if not path.name.startswith("prepare_"))


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_script_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path), "5"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.split()[-1]).is_file()


SVG = """<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">
<rect x="18" y="18" width="36" height="18" fill="#ff0000"/></svg>"""


def test_openmoji_is_prepared_with_captions_groups_and_masks(tmp_path):
    """On a package of three emoji: which are taken, and where the mask lies on the image."""
    pytest.importorskip("resvg_py")
    package = tmp_path / "openmoji" / "color" / "svg"
    package.mkdir(parents=True)
    (tmp_path / "openmoji" / "data").mkdir()
    described = {"group": "flags", "annotation": "red", "tags": "a, b", "openmoji_tags": "c", "skintone": ""}
    without = {"hexcode": "B", "group": "food-drink", "tags": "", "openmoji_tags": ""}
    emoji = [described | {"hexcode": "A"}, described | without, described | {"hexcode": "C", "skintone": 5}]
    (tmp_path / "openmoji" / "data" / "openmoji.json").write_text(json.dumps(emoji))
    for name in "ABC":
        (package / f"{name}.svg").write_text(SVG)
    command = [sys.executable, str(EXAMPLES / "prepare_openmoji.py"), "openmoji", "made", "--size", "16"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    pack = open_data(Data(path=str(tmp_path / "made")))
    assert (len(pack), pack.conditions["label"].names) == (2, ("flags", "food-drink"))
    assert list(pack.texts) == [("red", "a, b, c"), ("red",)]
    inside = np.zeros((16, 16), bool)
    inside[4:8, 4:12] = True
    np.testing.assert_array_equal(pack.given["mask"][0], inside)
    np.testing.assert_array_equal(pack.images[0], np.where(inside[..., None], [255, 0, 0], 255))
    again = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "is there already" in again.stderr
