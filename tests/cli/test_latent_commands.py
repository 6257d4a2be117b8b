"""Directions and projections by their commands, on a GAN and a VAE; pictures as latents have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import tiny
from city import SHRUNK, city, few, quiet
from command_line import run

WIDTHS = {"network.encoder.widths": [4, 4, 4, 4], "network.decoder.widths": [4, 4, 4, 4]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the runs "city", of a GAN, "faces", of a VAE, and "digits", a diffusion model, are in runs/."""
    from safelight.engine.distributed import World
    from safelight.recipe import load
    from safelight.training.progress import Show
    from safelight.training.start import begin

    place = tmp_path_factory.mktemp("work")
    city(place / "runs")
    faces = {key: value for key, value in SHRUNK.items() if not key.startswith("network")}
    with quiet():
        begin(load("faces-small", {**faces, **WIDTHS}), place / "runs", "faces", World(), Show())
        digits = load("digits-class", {**tiny.TINY, "train.steps": 2, "watch.every": 2})
        begin(digits, place / "runs", "digits", World(), Show())
    return place


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    few(monkeypatch)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["--direction", "pca:1", "--rows", "3"], 3),
        (["--direction", "sefa:2=-1..1", "--rows", "2", "--seed", "4"], 2),
        (["--direction", "pca:1", "--direction", "sefa:1", "--specimen", "4.3"], 2),
    ],
)
def test_directions_are_drawn(words, rows, monkeypatch, capsys):
    words = ["traverse", "city", *words, "--columns", "5", "--out", "grid.png", "--json"]
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    printed = json.loads(out)
    assert (printed["rows"], printed["columns"]) == (rows, 5)
    with Image.open("grid.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["city", "--direction", "pca:999"], "direction pca:999: there are "),
        (["city", "--direction", "pca:0"], "direction pca:0: there are "),
        (["city", "--direction", "up"], "direction up: expected pca:1 or sefa:1"),
        (["city", "--direction", "pca:1", "--component", "1"], "or --direction, such as pca:1"),
        (["city", "--component", "1", "--specimen", "4.3"], "only directions start from one"),
        (["city", "--direction", "pca:1", "--specimen", "4.tower"], "city has no specimen of that name"),
        (["digits", "--direction", "pca:1"], "the latents of this run are images, 1x28x28"),
        (["digits", "--direction", "sefa:1"], "the latents of this run are images, 1x28x28"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words, refusal, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "traverse", *words)
    assert code == 2
    assert refusal in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["city", "faces"])
def test_an_image_is_projected_and_a_direction_starts_there(name, folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "specimens", name, "--keep", "4.1")
    image = str(folder / "runs" / name / "specimens" / "4.1.png")
    words = ["project", name, image, "--steps", "60", "--out", "sheet.png", "--json"]
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    printed = json.loads(out)
    assert printed["distance"]["last"] < printed["distance"]["first"]
    with Image.open("sheet.png") as picture:
        assert picture.width > picture.height
    _, again, _ = run(monkeypatch, capsys, *words)
    assert json.loads(again) == printed
    code, out, err = run(
        monkeypatch, capsys, "traverse", name, "--direction", "sefa:1", "--specimen", printed["specimen"],
        "--out", "from.png", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["rows"] == 1


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["city", "nothing.png"], "nothing.png: there is no such file"),
        (["city", "text.png"], "text.png: is not a readable picture"),
        (["city", "dot.png", "--condition", "hair=1"], "condition hair: the data has no such condition"),
        (["digits", "dot.png"], "its latents are images"),
    ],
)
def test_what_cannot_be_projected_is_told_in_a_line(words, refusal, folder, monkeypatch, capsys):
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (9, 9)).save(folder / "dot.png")
    code, _, err = run(monkeypatch, capsys, "project", *words)
    assert code == 2
    assert refusal in err
    assert err.count("\n") == 1
