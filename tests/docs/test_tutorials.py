"""A tutorial's commands run, from the first to the last, with what its head says is smaller."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from command_line import run
from docs.pages import PAGES, commands

TUTORIALS = [page for page in PAGES if page.startswith("docs/tutorials/") and not page.endswith("index.md")]
RUN = [page for page in TUTORIALS if "<!-- not run:" not in PAGES[page]]
TAKES_KEYS = ("train", "check", "plan")  # a fork has the keys of its run
SHORT = {"--n": "20", "--minutes": "0.2"}  # of evaluate and sample, of new


def test_most_tutorials_run_and_the_others_say_why_not():
    assert len(RUN) >= len(TUTORIALS) / 2
    for page in set(TUTORIALS) - set(RUN):
        assert re.search(r"<!-- not run: .{20,} -->", PAGES[page])


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_a_tutorial_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFELIGHT_RUNS", raising=False)
    smaller = re.search(r"<!-- smaller: (.*?) -->", PAGES[page])[1].split()
    if "<!-- folder: photos/ -->" in PAGES[page]:
        (tmp_path / "photos").mkdir()
        for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (60, 24, 24, 3), np.uint8)):
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    for command in commands(page):
        _, name, *words = shlex.split(command)
        for option, value in SHORT.items():
            if option in words:
                words[words.index(option) + 1] = value
        keys = [key for key in smaller if key.split("=")[0] not in str(words)] if name in TAKES_KEYS else []
        code, out, err = run(monkeypatch, capsys, name, *words, *keys)
        finished = (
            name == "tune" and "finished at step" in err
        )  # here the training is over before the next line
        assert code == 0 or finished, f"{command}\n{out[-500:]}\n{err[-1500:]}"
