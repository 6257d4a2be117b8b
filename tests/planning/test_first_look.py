"""A folder in, a complete recipe out: in a file with reasons, and in a run like any other."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from PIL import Image

import safelight as sl
from command_line import run
from safelight.config import UserError, flatten
from safelight.planning.first_look import first_look, is_data
from safelight.recipe import load
from safelight.store import metrics
from safelight.store.directory import RunDirectory

SMALL = {"network.width": 4, "train.steps": 4, "train.precision": "fp32", "watch.images": 4}
WORDS = [f"{key}={value}" for key, value in SMALL.items()]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "my photos"
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for item in range(10):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(
                folder / name / f"{item}.png"
            )
    return folder


def test_a_recipe_is_complete_and_every_key_has_its_reason(photos, tmp_path):
    look = first_look(photos, SMALL, minutes=0.5)
    path = tmp_path / "my-photos.toml"
    path.write_text(look.text)
    read = load(path)
    assert read.tree == look.recipe.tree
    lines = [line for line in look.text.splitlines() if " = " in line and not line.startswith("#")]
    assert all("  # " in line for line in lines if not line.startswith(("title", 'size = "')))
    assert flatten(tomllib.loads(look.text)).keys() == {choice.key for choice in look.choices}
    assert (read.data.labels, read.data.height_width, read.train.steps) == (True, (16, 16), 4)
    assert len(look.lines) == 5
    assert look.recipe.name == "my-photos"


def test_what_is_stated_is_left(photos):
    look = first_look(photos, {**SMALL, "data.size": 8, "optim.lr": 1e-4, "data.labels": False}, minutes=0.5)
    assert (look.recipe.data.size, look.recipe.optim["denoiser"].lr, look.recipe.data.labels) == (
        8,
        1e-4,
        False,
    )
    reasons = {choice.key: choice.reason for choice in look.choices}
    assert reasons["optim.lr"] == reasons["data.size"] == "as stated"
    assert "given" not in look.lines[1]


def test_more_minutes_are_more_steps(photos):
    short, long = (
        first_look(photos, {"network.width": 4, "train.precision": "fp32", "data.size": 16}, minutes=minutes)
        for minutes in (1, 20)
    )
    assert long.recipe.train.steps > 3 * short.recipe.train.steps


def test_a_run_of_a_folder_is_a_run(photos, tmp_path, monkeypatch, capsys):
    words = [
        "train",
        str(photos),
        "--minutes",
        "0.5",
        *WORDS,
        "--no-check",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0
    assert json.loads(out)["name"] == "my-photos-1"
    lines = [
        line
        for line in err.splitlines()
        if line.startswith(("found:", "learns:", "network:", "trains:", "change:"))
    ]
    assert len(lines) == 5
    recorded = RunDirectory(tmp_path / "my-photos-1").recipe_tree()
    assert recorded["data"]["path"] == str(photos)
    assert recorded["train"]["steps"] == 4
    code, _, _ = run(monkeypatch, capsys, "resume", "my-photos-1", "--runs", str(tmp_path))
    assert code == 0


def test_a_run_of_a_folder_forks_and_replays_exactly_with_random_crops(photos, tmp_path):
    changes = {**SMALL, "train.steps": 6, "data.size": 8, "data.crop": "random", "checkpoint.every": 2}
    whole = sl.train(photos, changes, minutes=0.5, name="whole", runs=tmp_path)
    fork = sl.fork("whole", 3, {"sample.guidance": 3.0}, name="fork", runs=tmp_path)
    prints = [
        {row.step: row.fingerprint for row in metrics.rows(tmp_path / name)} for name in ("whole", "fork")
    ]
    assert list(prints[1]) == [3, 4, 5]
    assert prints[0].items() >= prints[1].items()  # guidance is for samples alone
    assert {sl.replay(name, 5, runs=tmp_path).verdict for name in ("whole", "fork")} == {"exact"}
    assert fork.step == 6
    assert whole.sample(1).images.shape == (1, 8, 8, 3)


def test_new_writes_it(photos, tmp_path, monkeypatch, capsys):
    path = tmp_path / "my.toml"
    code, out, _ = run(
        monkeypatch, capsys, "new", str(path), "--from", str(photos), "--minutes", "0.3", "--json"
    )
    assert code == 0
    printed = json.loads(out)
    assert printed["found"]["images"] == 20
    assert load(path).train.steps == printed["choices"]["train.steps"]["value"]
    code, _, err = run(monkeypatch, capsys, "new", str(path), "--from", str(photos))
    assert (code, "exists already" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["new", "x.toml", "--from", "digits", "--minutes", "3"], "--minutes: is for a folder of pictures"),
        (["train", "{empty}"], "holds no image"),
        (["check", "{empty}"], "is a folder; write its recipe first: safelight new my.toml --from"),
    ],
)
def test_one_line_where_it_cannot(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *(word.format(empty=tmp_path) for word in words))
    assert (code, message in err) == (2, True)


def test_a_shipped_name_is_a_recipe_also_beside_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert [is_data(name) for name in ("digits", "digits/", "./digits", "x.toml")] == [
        False,
        True,
        True,
        False,
    ]


def test_one_picture(tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="holds one picture; give 8 or more"):
        first_look(tmp_path)
