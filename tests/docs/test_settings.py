"""docs/settings.md is true: its commands run, on a made-up training; its numbers are those of the code."""

from __future__ import annotations

import shlex
from functools import partial

import pytest

from command_line import run
from docs.pages import PAGES, commands
from safelight.monitor import forecast
from safelight.training import arms, population, search
from training.test_search import Training

pytest.importorskip("optuna")
PAGE = "docs/settings.md"


def test_its_commands_search(tmp_path, monkeypatch, capsys):
    sizes: list[int] = []

    def populate(space, folder, size, **how):
        sizes.append(size)
        return search.Searched(space, [])

    monkeypatch.setattr("safelight.api.settings.search", partial(search.search, train=Training()))
    monkeypatch.setattr("safelight.api.settings.populate", populate)
    monkeypatch.chdir(tmp_path)
    first, *others = [shlex.split(command)[1:] for command in commands(PAGE)]
    code, out, err = run(monkeypatch, capsys, *first)
    assert code == 0, err
    assert "6/6  lr = " in out
    assert "best: lr = " in out
    assert len(list(tmp_path.rglob("study.jsonl"))) == 1
    code, again, _ = run(monkeypatch, capsys, *first)
    assert again.splitlines()[-1:] == [line for line in out.splitlines() if line.startswith("best: ")]
    for command in others:
        assert run(monkeypatch, capsys, *command)[0] == 0
    assert sizes == [8]


def test_its_numbers_are_those_of_the_code():
    text = " ".join(PAGES[PAGE].split())
    assert forecast.LEAST == search.LEAST == 9
    assert "Where nine arms have ended" in text
    assert "nine or more" in text
    assert forecast.LEVEL == 0.8
    assert "four of five" in text
    assert (arms.ETA, arms.RUNGS) == (3, 2)
    assert "a ninth of their steps, then a third, then the end" in text
    assert (population.ROUNDS, population.QUARTER) == (8, 4)
    assert "in eight rounds" in text
    assert "the worst quarter" in text
