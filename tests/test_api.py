"""safelight from Python, and a family or a network of one's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import safelight as sl
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load, resolve
from safelight.store import metrics
from safelight.training.progress import Show
from safelight.training.start import resume as go_on
from tiny import TINY

EXAMPLE = Path(__file__).parents[1] / "examples" / "my_method.py"
NETWORK = """
from torch import nn
from safelight.config import Section


class Config(Section):
    hidden: int = 6

    def build(self, spec):
        return Net(spec.shape[0], self.hidden)


class Net(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(hidden, channels, 3, padding=1)
        )

    def forward(self, x, t, given, present):
        return self.layers(x)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    changes = {name: value for name, value in TINY.items() if name != "train.steps"}
    return sl.train("digits-class", changes, name="first", runs=folder, steps=12)


def test_a_run_is_trained_sampled_and_read_in_three_lines(run):
    assert run.step == 12
    samples = run.sample(16, label=3)
    assert samples.given["label"].tolist() == [3] * 16
    assert run.metrics("loss")["raw/mse"].shape == (12,)
    again = sl.open_run(run.directory.path)
    assert (again.sample(16, label=3).images == samples.images).all()
    assert "digits" in sl.recipes.names()
    assert isinstance(run, sl.Run)


def test_a_notebook_shows_a_run_and_its_samples(run):
    html = run._repr_html_()
    assert "<b>first</b>, step 12" in html
    assert "data:image/png;base64," in html
    assert "<svg" in html
    assert run.sample(4)._repr_png_().startswith(b"\x89PNG")


def write_recipe(folder: Path) -> Path:
    """A recipe beside a method and a network of one's own, both by relative path."""
    shutil.copy(EXAMPLE, folder / "mine.py")
    (folder / "net.py").write_text(NETWORK)
    recipe = folder / "my.toml"
    recipe.write_text(
        '[data]\nsource = "digits"\n[network]\nname = "net.py"\nhidden = 5\n[method]\nname = "mine.py"\n'
        "[train]\nsteps = 6\nbatch_size = 8\nprecision = 'fp32'\nmemory_format = 'contiguous'\n"
        "[checkpoint]\nevery = 3\n[watch]\nevery = 6\nimages = 4\n"
    )
    return recipe


def test_a_family_of_ones_own_trains_from_one_file(tmp_path, monkeypatch, capsys):
    trained = sl.train(write_recipe(tmp_path), name="own", runs=tmp_path / "runs")
    said = capsys.readouterr().err
    assert f"runs the code of {tmp_path / 'mine.py'}" in said  # said once for each file, before it ran
    assert said.count("runs the code of") == 2
    assert set(trained.metrics("loss")) == {"step", "raw/velocity", "raw/straightness"}
    assert trained.recipe.networks["denoiser"].hidden == 5
    facts = trained.directory.info().facts
    assert str(tmp_path / "mine.py") in facts.code
    monkeypatch.chdir("/")  # the recorded recipe means the same from anywhere
    assert sl.open_run(trained.directory.path).sample(4).images.shape == (4, 28, 28, 1)


def test_a_file_that_changed_is_said_on_resume(tmp_path):
    trained = sl.train(write_recipe(tmp_path), name="own", runs=tmp_path / "runs")
    with (tmp_path / "mine.py").open("a") as file:
        file.write("# changed\n")
    steps = trained.directory.path / "checkpoints"
    shutil.rmtree(max(steps.iterdir()))  # half of the run is to be trained again
    go_on(trained.directory, World(), Show())
    notes = [entry.fields["text"] for entry in trained.directory.journal().of_kind("note")]
    assert any("code differs" in note and "mine.py" in note for note in notes)
    assert metrics.reached(trained.directory.path) == 6


def test_a_recorded_recipe_keeps_the_path(tmp_path):
    recipe = load(write_recipe(tmp_path))
    assert recipe.tree["method"]["name"] == str(tmp_path / "mine.py")
    assert recipe.tree["network"]["name"] == str(tmp_path / "net.py")
    assert resolve(recipe.tree, "again").tree == recipe.tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("x = 1\n", "has no class with Config, Sampling, phases"),
        ("1 / 0\n", "failed to load .ZeroDivisionError"),
    ],
)
def test_a_file_that_is_no_method_is_named(tmp_path, text, message):
    recipe = write_recipe(tmp_path)
    (tmp_path / "mine.py").unlink()
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load(recipe)
    assert "mine.py" in str(error.value)


def test_every_public_name_is_there_and_the_library_imports_no_command_line():
    code = (
        "import sys\nimport safelight as sl\nassert 'torch' not in sys.modules\n"
        "assert all(callable(getattr(sl, name)) or name == 'recipes' for name in sl.__all__)\n"
        "assert all(name in sl.__doc__ for name in sl.__all__ if name != 'recipes')\n"
        "assert not [name for name in sys.modules if name.startswith('safelight.cli')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_is_steered_from_python(run, tmp_path):
    shutil.copytree(run.directory.path, tmp_path / "first")
    calmer = sl.fork("first", 6, {"optim.lr": 1e-4}, name="calmer", train=False, runs=tmp_path)
    assert (calmer.name, calmer.step, calmer.recipe.optim["denoiser"].lr) == ("calmer", 6, 1e-4)
    edit = sl.tune(calmer, {"watch.every": 3})
    assert edit.changes == {"watch.every": 3}
    assert sl.resume(calmer).step == 12
    assert [summary.name for summary in sl.runs(tmp_path)] == ["calmer", "first"]
    assert sl.replay("calmer", 12, runs=tmp_path).agreed
    back = sl.rollback("calmer", 9, train=False, runs=tmp_path)
    assert (back.name, back.step) == ("calmer", 9)
    assert {summary.name for summary in sl.runs(tmp_path)} == {"calmer", "calmer-before-9", "first"}
    with pytest.raises(sl.UserError, match=r"finished at step 12 of 12.*fork first --step STEP optim.lr=0.1"):
        sl.tune("first", {"optim.lr": 0.1}, runs=tmp_path)


def test_samples_and_pages_from_python(run, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(run.directory.path, runs / "first")
    shutil.copytree(run.directory.path, runs / "second")
    sheet = sl.specimens("first", tmp_path / "sheet.png", count=4, runs=runs)
    assert (sheet["step"], sheet["ids"]) == (12, ["12.0", "12.1", "12.2", "12.3"])
    sl.keep("first", ["12.2"], runs=runs)
    ((kept, picture),) = sl.kept("first", runs=runs)
    assert (kept.id, picture.is_file()) == ("12.2", True)
    film = sl.walk("first", ["12.0", "12.1"], tmp_path / "walk.webp", frames=3, runs=runs)
    assert (film.out.is_file(), len(film.shots)) == (True, 3)
    with pytest.raises(sl.UserError, match="its latents are images"):
        sl.project("first", picture, runs=runs)
    assert sl.compare("first", "second", out=tmp_path, runs=runs).html == tmp_path / "compare.html"
    entries, _, html = sl.log(runs=runs)
    assert (len(entries), html.is_file()) == (2, True)
    assert sl.open_run("first", runs=runs).report().is_file()
