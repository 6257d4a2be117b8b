"""Travelling in a run by its commands: specimens, films and walks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from city import city, few
from command_line import run

FILMED = {
    "train.steps": 12,
    "watch.every": 12,
    "watch.film": ["0.3"],
    "watch.film_every": 2,
    "checkpoint.every": 6,
}


def size(path: str) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the run "city" is in runs/."""
    place = tmp_path_factory.mktemp("work")
    city(place / "runs", FILMED)
    return place


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    few(monkeypatch)


def test_what_the_tour_promises(monkeypatch, capsys):
    """The way of somebody who found a picture: sheet, film, replay, another way from there, both compared."""
    code, out, _ = run(
        monkeypatch, capsys, "specimens", "city", "--step", "5", "-n", "6", "--out", "sheet.png", "--json"
    )
    printed = json.loads(out)
    assert (code, printed["step"], printed["ids"][5], printed["verdict"]) == (0, 5, "5.5", "exact")
    assert size("sheet.png")[0] > 100
    code, out, _ = run(
        monkeypatch, capsys, "film", "city", "5.3", "--from", "0", "--to", "5", "--out", "film.mp4"
    )
    assert (code, out) == (0, "film.mp4: 6 frames (1 from the checkpoint, 5 from replay); exact\n")
    code, out, _ = run(monkeypatch, capsys, "replay", "city", "--step", "7", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "exact")
    code, _, _ = run(
        monkeypatch, capsys, "fork", "city", "--step", "4", "optim.generator.lr=1e-5", "--name", "calmer"
    )
    assert code == 0
    code, out, _ = run(monkeypatch, capsys, "compare", "city", "calmer")
    assert code == 0
    assert "optim.generator.lr" in out


def test_a_film_of_what_was_watched_plays_the_live_frames(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "film", "city", "--out", "live.gif", "--json")
    printed = json.loads(out)
    assert (code, printed["frames"], printed["steps"], printed["sources"]) == (0, 7, [0, 12], {"live": 7})
    with Image.open("live.gif") as film:
        assert film.n_frames == 7


def test_specimens_are_kept_and_listed(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "specimens", "city")
    assert (code, out) == (0, "nothing kept yet; draw a sheet with: safelight specimens city -n 30\n")
    run(monkeypatch, capsys, "specimens", "city", "--keep", "6.2", "--keep", "12.0")
    _, out, _ = run(monkeypatch, capsys, "specimens", "city", "--json")
    kept = json.loads(out)
    assert [(specimen["id"], specimen["source"], specimen["verdict"]) for specimen in kept] == [
        ("6.2", "checkpoint", "checkpoint matches the journal"),
        ("12.0", "checkpoint", "checkpoint matches the journal"),
    ]
    assert all(size(specimen["picture"]) == (64, 64) for specimen in kept)


def test_a_walk(monkeypatch, capsys):
    words = ["walk", "city", "6.2", "12.0", "--frames", "5", "--out", "walk.webp", "--json"]
    code, out, _ = run(monkeypatch, capsys, *words)
    printed = json.loads(out)
    assert (code, printed["frames"], printed["steps"]) == (0, 5, [6, 12])
    with Image.open("walk.webp") as film:
        assert film.n_frames == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["film", "city", "5"], "specimen '5': expected STEP.DRAW, such as 16500.28"),
        (["film", "city", "0.3", "--to", "99"], "steps 0 to 99: city has recorded the steps 0 to 12"),
        (["film", "city", "0.3", "--out", "film.avi"], "film.avi: unknown output type; use .mp4, .webp"),
        (["film", "city", "0.3", "train.steps=3"], "train.steps: only keys of [sample]"),
        (["walk", "city", "0.3"], "walk: name two specimens or more"),
        (["specimens", "city", "--keep", "x"], "specimen 'x': expected STEP.DRAW"),
        (["specimens", "city", "--step", "99"], "step 99: city has recorded the steps 0 to 12"),
        (["specimens", "city", "--out", "sheet.gif"], "sheet.gif: a sheet of specimens is a .png"),
        (["train", "skylines-small", 'watch.film=["3"]'], "watch.film: '3' is not a specimen"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(monkeypatch, capsys, words, message):
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"safelight: {message}")
