"""Batches made ahead are those that would be made in time."""

from __future__ import annotations

import threading

import torch

import toys
from safelight.data.prefetch import Prefetched

CPU = torch.device("cpu")


class Watched(toys.ToyStream):
    """Notes which steps were made, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, bool]] = []

    def parts(self, step, accumulate, rank, world):
        self.made.append((step, threading.current_thread() is threading.main_thread()))
        return super().parts(step, accumulate, rank, world)


def test_every_step_but_the_first_is_made_ahead_and_the_same():
    stream, plain = Watched(), toys.ToyStream()
    prefetched = Prefetched(stream, CPU)
    for step in range(5):
        for made, expected in zip(prefetched.parts(step, 2, 0, 1), plain.parts(step, 2, 0, 1), strict=True):
            assert torch.equal(made.x, expected.x)
            assert made.rows == expected.rows
    prefetched.close()
    assert stream.made[:5] == [(0, True), (1, False), (2, False), (3, False), (4, False)]


def test_what_was_made_for_another_step_or_before_an_edit_is_not_used():
    edits = [object()]
    stream = Watched()
    prefetched = Prefetched(stream, CPU, lambda: edits[-1])
    wanted = [(0, 1), (1, 1), (7, 1), (8, 3), (9, 3)]  # a jump, other parts
    for step, accumulate in wanted:
        (first, *_) = prefetched.parts(step, accumulate, 0, 1)
        assert torch.equal(first.x, toys.ToyStream().parts(step, accumulate, 0, 1)[0].x)
    edits.append(object())
    before = len(stream.made)
    prefetched.parts(10, 3, 0, 1)
    prefetched.close()
    assert [step for step, main in stream.made if main] == [0, 7, 8, 10]
    assert (10, True) in stream.made[before:]
