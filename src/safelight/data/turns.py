"""Which bucket a step takes: a pure function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from safelight.randomness import RowDraw

Cycle = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Turns:
    """Which bucket each step takes, and how many batches that bucket gave before.

    In every N steps, N the number of images in all buckets, a bucket of n images has n turns, spread evenly:
    its turn j falls at random into the j-th of n equal parts of those steps. At any step the turns a bucket
    has had are its share of the steps to within the number of buckets. Batch k of a bucket holds rows k B to
    (k + 1) B of an endless concatenation of its permutations: nothing is dropped, or repeated to fill a
    batch, of two images of a bucket neither is seen more than once more, and N steps show every image of
    every bucket B times.
    """

    counts: tuple[int, ...]  # images, or what counts for them, of each bucket
    seed: int
    _cycles: dict[int, Cycle] = field(default_factory=dict)

    def at(self, step: int) -> tuple[int, int]:
        """(bucket, batches it gave before) of a step."""
        cycle, place = divmod(step, sum(self.counts))
        which, before = self._cycle(cycle)
        bucket = int(which[place])
        return bucket, cycle * self.counts[bucket] + int(before[place])

    def _cycle(self, number: int) -> Cycle:
        """(N,) the bucket of every step of a cycle, and how often it came in the cycle before."""
        cycle = self._cycles.get(number)
        if cycle is None:
            turns = np.concatenate([np.arange(count) for count in self.counts])
            whose = np.repeat(np.arange(len(self.counts)), self.counts)
            random = RowDraw(self.seed, number, "buckets", range(len(turns))).uniform("place").numpy()
            times = (turns + random.astype(np.float64)) / np.array(self.counts)[whose]
            order = np.argsort(times, kind="stable")
            cycle = whose[order], turns[order]
            self._cycles.clear()  # a step before the last cycle is rare
            self._cycles[number] = cycle
        return cycle
