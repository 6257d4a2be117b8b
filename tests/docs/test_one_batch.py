"""The code in docs/one-*.md is code: a family that trains and samples, quotations of what is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from safelight.engine.loop import Job, StepRecord, train
from safelight.engine.plan import Optim, Plan, Train
from safelight.engine.state import State
from safelight.networks.unet import UNetConfig as UNet
from safelight.randomness import RowDraw
from safelight.types import Batch, DataSpec

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "one-batch.md"
PAGES = [PAGE, DOCS / "one-sample.md", DOCS / "one-edit.md"]
SPEC = DataSpec((1, 8, 8))


class Blobs:
    """Images of one bright half: the left or the right."""

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]:
        rows = range(16)
        side = RowDraw(0, step, "data", rows).integers("side", 2).bool()[:, None, None, None]
        left = torch.cat([torch.ones(1, 8, 4), -torch.ones(1, 8, 4)], dim=2)
        return [Batch(torch.where(side, left, -left), {}, torch.zeros(16, dtype=torch.bool), rows, 16)]


def test_the_family_of_the_page_trains_and_samples(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "plain.py"
    path.write_text(next(block for block in blocks if "class Plain:" in block), encoding="utf-8")
    names = runpy.run_path(str(path))
    method = names["Plain"](names["PlainConfig"](), {"denoiser": UNet(width=16, multipliers=(1, 1))})
    steps = 150
    plan = Plan(
        steps,
        Train(steps=steps, batch_size=16, ema=0.9),
        {"denoiser": Optim(lr=3e-3)},
        dict(method.components),
    )
    state = State(method, SPEC, plan, torch.device("cpu"), "contiguous")
    records: list[StepRecord] = []
    train(Job(method, state, Blobs(), lambda step: plan, records.append, lambda signals: None))
    losses = [float(record.scalars["velocity"]) for record in records]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])  # some of it is uncertainty, and stays
    draw = RowDraw(1, 0, "sample", range(32))
    with torch.no_grad():
        none = torch.zeros(32, dtype=torch.bool)
        images = method.sample(
            state.averages.networks, method.latent(draw), {}, none, draw, names["PlainSampling"]()
        )
    halves = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))
    assert bool(((halves[0] - halves[1]).abs() > 0.5).all())  # one half bright, the other dark
    assert 4 < int((halves[0] > 0).sum()) < 28  # and both kinds are made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_names_what_there_is(page):
    """Every `file.py` and every `file.py: name` of the page exists."""
    root = PAGE.parents[1] / "src" / "safelight"
    text = page.read_text(encoding="utf-8")
    for path, name in re.findall(r"`((?:\w+/)?\w+\.py)(?:: ([\w.]+))?", text):
        source = (root / path).read_text(encoding="utf-8")
        if name:
            assert re.search(rf"(def|class) {name.split('.')[-1]}\b", source), f"{path}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_it_quotes_is_the_code(page):
    """The lines of a quotation stand in one source file, in this order; "..." leaves some out."""
    root = PAGE.parents[1] / "src" / "safelight"
    sources = [[line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
               for path in root.rglob("*.py")]  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    quoted = [block for block in blocks if "class Plain:" not in block]
    assert len(quoted) >= (5 if page == PAGE else 2)
    for block in quoted:
        lines = [line.strip() for line in block.splitlines() if line.strip() not in ("", "...")]
        assert any(in_order(lines, source) for source in sources), block


def in_order(lines: list[str], source: list[str]) -> bool:
    """Whether the lines are among those of the source, one after the other, with or without a comment."""
    rest = iter(source)
    return all(any(text == line or text.startswith(f"{line}  # ") for text in rest) for line in lines)
