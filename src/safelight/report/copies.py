"""Copies of training images among samples, for the report of a run on few images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from safelight.evaluate.originals import Rate
from safelight.render.page import Block, Notes, ReportTable, Text
from safelight.report.facts import RunFacts
from safelight.store import results

FEW = 20_000  # training images, up to which the monitors search them all
SHOWN = 20  # images at risk in a report
RULE = (
    "A copy: its nearest training image lies within a third of the mean distance to the 50 nearest. "
    "Intervals are of 95 %; by chance: the share where samples are no nearer than held-out images."
)


def copies_blocks(run: RunFacts) -> list[Block]:
    """What `safelight originals` found, or what monitors saw on the last sheet; nothing of many images."""
    stored = results.read_originals(run.path)
    if stored is not None:
        return _stored(run, stored)
    column = run.record.columns.get("monitor/copies")
    finite = column.values[np.isfinite(column.values)] if column else np.zeros(0)
    if not 0 < run.dataset_size <= FEW or not len(finite):
        return []
    n = int(run.settings_at(run.step).get("watch.images", 40))
    rate = Rate.of(round(float(finite[-1]) * n), n)
    return [
        Text(f"Of {n} watched samples {rate} are copies of training images, past those of held-out ones."),
        Text(f"More samples, features, and the images at risk: safelight originals {run.name}", quiet=True),
    ]


def _stored(run: RunFacts, stored: Mapping[str, Any]) -> list[Block]:
    rows = tuple(
        (
            name,
            *(str(Rate(**space[rate])) for rate in ("copies", "held_out_copies", "nearer")),
            "{:.1%} to {:.1%}".format(*space["chance"]),
        )
        for name, space in stored["spaces"].items()
    )
    head = ("space", "copies", "held-out images", "nearer than 95 % of held-out", "by chance")
    blocks: list[Block] = [
        Text(f"{stored['n']:,} samples at step {stored['step']:,}, {stored['trained']:,} training images."),
        ReportTable(head, rows),
        Text(RULE, quiet=True),
    ]
    if risk := stored["at_risk"]:
        lines = tuple(
            f"{item['path'] or item['name']}: {item['space']} {item['ratio']:.2f}, sample "
            + ", ".join(map(str, item["samples"][:5]))
            for item in risk[:SHOWN]
        )
        if len(risk) > SHOWN:
            lines += (f"and {len(risk) - SHOWN} more: safelight originals {run.name} --json",)
        blocks.append(Notes(lines, "Images at risk"))
    return blocks
