"""What training cost: seconds inside steps for a thousand images, on which machine."""

from __future__ import annotations

import numpy as np

from safelight.compare.basis import Basis, Number, Row
from safelight.compare.gather import RunFacts
from safelight.render.history import Series

MEAN, MEDIAN = "s / kimg", "s / kimg, median part"
PARTS = 20  # of a run, of whose costs the median is taken
MACHINE = ("host", "device", "gpu", "cpu_capability", "threads", "processes", "torch")


def cost(run: RunFacts) -> Row:
    """Seconds inside steps for a thousand images: over the whole run, and of its median part."""
    record = run.record
    paid = record.images[record.inherited :]  # a fork did not pay for its parent's
    if not len(paid):
        return Row(run.name, machine(run), {})
    images = paid - paid[0] + run.batch_size
    seconds = record.hours[record.inherited :] * 3600
    numbers = {
        MEAN: Number(float(seconds[-1] / images[-1] * 1000)),
        MEDIAN: Number(median_part(seconds, images / 1000)),
    }
    return Row(run.name, machine(run), numbers, int(images[-1]), float(record.hours[-1]))


def median_part(seconds: Series, kimg: Series) -> float:
    """The median of seconds per kimg over PARTS consecutive parts of a run.

    seconds, kimg: (N,) sums up to each step. The parts hold every phase, lazy ones too, as a median over
    steps would not; and unlike the mean, half of the parts may have met a busy machine.
    """
    edges = np.linspace(0, len(seconds), min(PARTS, len(seconds)) + 1).round().astype(int)
    spent = np.diff(np.concatenate([[0.0], seconds])[edges])
    seen = np.diff(np.concatenate([[0.0], kimg])[edges])
    return float(np.median(spent / seen))


def machine(run: RunFacts) -> Basis:
    """What the cost of a step depends on besides the recipe; sessions on different machines are all named."""
    found = {}
    for name in MACHINE:
        values = dict.fromkeys(str(one[name]) for one in run.environments if name in one)
        if values:
            found[name] = ", then ".join(values)
    return found
