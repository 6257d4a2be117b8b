"""Sizes of pictures and the networks for them, and which of them a folder and the time given allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safelight.data.glance import Glance

SEEN = 30_000  # pictures a network has to see before one of the next rung is worth it


@dataclass(frozen=True)
class Rung:
    """A size of picture and the network for it; each takes about twice to four times the time of the last."""

    side: int
    patch: int
    width: int
    multipliers: tuple[int, ...]
    attention: tuple[int, ...]
    batch: int

    @property
    def step(self) -> int:
        """What heights and widths have to divide by."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    @property
    def cost(self) -> float:
        """Of a picture, relative to other rungs: pixels after the stem times channels squared."""
        return float((self.side / self.patch * self.width) ** 2 * len(self.multipliers))


LADDER = (
    Rung(32, 2, 32, (1, 2), (), 32),
    Rung(32, 2, 48, (1, 2), (), 32),
    Rung(64, 4, 64, (1, 2), (), 32),
    Rung(64, 4, 96, (1, 2), (1,), 32),
    Rung(64, 2, 96, (1, 2, 2), (2,), 64),
    Rung(128, 4, 128, (1, 2, 2), (2,), 64),
    Rung(128, 4, 192, (1, 2, 2), (2,), 64),
    Rung(256, 8, 256, (1, 2, 2), (2,), 64),
)


def largest(seen: Glance) -> int:
    """Pictures are not enlarged: the largest side of the ladder that nine of ten have, or the smallest."""
    sides = [rung.side for rung in LADDER if rung.side <= seen.least]
    return max(sides, default=LADDER[0].side)


def choose(seen: Glance, stated: Mapping[str, Any], afforded: Callable[[Rung], float]) -> tuple[Rung, str]:
    """Upwards from the lowest rung, as long as SEEN pictures or more can be seen in the time.

    stated: the recipe's keys that the user stated. afforded: pictures that can be seen, measured.
    """
    most = largest(seen)
    size = stated.get("data.size")
    if size is not None:
        most = max(size) if isinstance(size, list | tuple) else size
    rungs = [rung for rung in LADDER if rung.side <= most] or [LADDER[0]]
    if size is not None:  # at that size, whatever it costs
        rungs = [rung for rung in rungs if rung.side == rungs[-1].side]
    chosen = rungs[0]
    for higher in rungs[1:]:
        if afforded(chosen) * chosen.cost / higher.cost < SEEN / 2 or afforded(higher) < SEEN:
            return (
                chosen,
                f"{afforded(chosen):,.0f} pictures can be seen; wider, they would be fewer than {SEEN:,}",
            )
        chosen = higher
    limit = "the stated size" if size is not None else f"pictures of {seen.least} pixels"
    return chosen, f"{afforded(chosen):,.0f} pictures can be seen; no larger one is for {limit}"
