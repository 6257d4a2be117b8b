"""Made-up facts of a whole run, for the tests of its report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from safelight.render.sheet import Images, sheet
from safelight.render.sheet_file import save_png
from safelight.report.facts import Measured, RunFacts, SessionFacts, Sheet
from safelight.report.history import MethodFacts
from safelight.report.records import MetricsRecord, RecordedColumn
from safelight.report.run_origin import Reproduce
from safelight.store.journal import Journal, JournalEntry


def images(seed: int, count: int = 6) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def entry(kind: str, session: int = 1, **fields: Any) -> JournalEntry:
    return JournalEntry(kind, "2026-01-01T00:00:00+00:00", session, 0, fields)


def whole_run(run: Path, word: str = "plain") -> tuple[RunFacts, MethodFacts, Reproduce, str]:
    """Facts in which every string a stranger could choose is `word`."""
    steps = np.arange(200)
    values = np.concatenate([np.linspace(2, 1, 180), np.full(20, 0.5)])
    values[7] = math.nan
    norms = np.ones(200)
    norms[6] = math.inf
    for step in (0, 10, 100, 199):
        save_png(sheet(images(step), 3), run / f"sheets/{step:06d}.png")
    save_png(sheet(images(2), 6), run / "panels/000200-one.png")
    words = {"wide": 6, "rows": [word], "columns": [word] * 6, "caption": word}
    (run / "panels/000200-one.json").write_text(json.dumps(words))
    column = RecordedColumn(steps, values)
    names = (f"raw/{word}", f"lr/{word}", f"held_out/{word}", f"evaluate/FD-{word}")
    columns = dict.fromkeys(names, column) | {"grad_norm/x": RecordedColumn(steps, norms)}
    record = MetricsRecord(steps, steps * 32, np.full(200, 0.2), columns)
    finding = {"severity": "error", "code": word, "measured": word, "expected": word, "declared": ""}
    verdict = {"name": word, "begins": True, "step": 60, "since": 50, "measured": word, "expected": word}
    journal = Journal(
        Path(),
        (
            entry("check", checks=[word], findings=[finding, {**finding, "declared": word}]),
            entry("intervention", step=50, changes={word: word}),
            entry("verdict", **verdict, advice=[{"words": word, "command": word}]),
            entry("session", 2, step=100, steps=400),
        ),
    )
    facts = RunFacts(
        name=word,
        path=run,
        status="finished",
        step=200,
        steps=400,
        tree={"train": {"batch_size": 32, "seed": 3}},
        journal=journal,
        data={
            "name": word,
            "fingerprint": word,
            "train": 640,
            "conditions": {"label": {"kind": "label", "size": 3, "names": [word] * 3}},
            "mask_shares": [],
        },
        code={word: word},
        sessions=(
            SessionFacts(word, 0, 120, 40.0, 24.0, word, {word: word, "torch": "2.12"}),
            SessionFacts(word, 100, 200, 60.0, 20.0, word, {word: word, "torch": "2.13"}),
        ),
        parent_name=word,
        verdicts=(word,),
        record=record,
        sheets=tuple(Sheet(step, run / f"sheets/{step:06d}.png") for step in (0, 10, 100, 199)),
        panels=(Sheet(200, run / "panels/000200-one.png"),),
        measured=(Measured(word, 5.9, 200, {word: word}, 2.3, provenance=word),),
        best=(123, word),
        problems=(word,),
    )
    recipe = {word: word, "data": {word: [1, word], "deep": {"lr": 1e-05, "on": True}}}
    method = MethodFacts(word, recipe, word, True, {word: 2.0}, {word: (word, "less")}, {word: 0.7})
    return facts, method, Reproduce((word, word), word, 123, word), word
