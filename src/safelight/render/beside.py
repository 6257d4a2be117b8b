"""Sheets of the same noises, one run a row, so that the eye compares like with like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from safelight.render.report_figures import STRIP_SIDE, reduced
from safelight.render.sheet import Images, panel

ACROSS = 10  # images in a row, at most
DOWN = 8  # rows, at most, unless the runs alone are more
ROUNDS = 3  # sets of noises, at most
TOLD = 12  # rows, at most, where each prompt has its own


def side_by_side(
    sheets: Sequence[tuple[str, Images]], conditions: Sequence[str] = (), prompts: Sequence[str] = ()
) -> Image.Image:
    """A row a run, a column a noise; then the same runs with the next noises, while there is room.

    sheets: (label, images (N, H, W, C)) of one shape; the n-th image of every sheet has the same noise and
    condition. conditions: names of those that take turns; a column each, if they fit. prompts: texts of
    equally many images each, one after another: then all runs with one text, below them with the next.
    """
    count = min(len(images) for _, images in sheets)
    if prompts and count % len(prompts) == 0:
        each = count // len(prompts)
        rows = [
            (f"{prompt}: {label}", reduced(images[start : start + min(each, ACROSS)], STRIP_SIDE))
            for prompt, start in zip(
                prompts[: max(1, TOLD // len(sheets))], range(0, count, each), strict=False
            )
            for label, images in sheets
        ]
        return panel(np.stack([images for _, images in rows]), row_labels=[label for label, _ in rows])
    named = 1 < len(conditions) <= min(count, 1.2 * ACROSS)
    across = len(conditions) if named else min(count, ACROSS)
    rounds = max(1, min(ROUNDS, count // across, DOWN // len(sheets)))
    rows = [
        (label, reduced(images[start : start + across], STRIP_SIDE))
        for start in range(0, rounds * across, across)
        for label, images in sheets
    ]
    return panel(
        np.stack([images for _, images in rows]),
        row_labels=[label for label, _ in rows],
        column_labels=conditions if named else (),
    )
