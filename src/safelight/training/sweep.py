"""A sweep: runs trained one after another. What is done is skipped, what was begun is resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.training.grid import Combination
from safelight.training.progress import Show
from safelight.training.stages import finish

Outcome = Literal["trained", "resumed", "done before", "failed", "stopped", "not begun"]


@dataclass
class Sweep:
    """What has become of the cells of a sweep."""

    cells: Sequence[Combination]
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by name of the run
    problems: dict[str, str] = field(default_factory=dict)  # of failed cells

    @property
    def stopped(self) -> bool:
        """Whether it was interrupted, so that the rest was not begun."""
        return "stopped" in self.outcomes.values()

    @property
    def hopeless(self) -> bool:
        """Whether the first two failed for one reason, before anything was trained: so would the rest."""
        reasons = [problem.replace(name, "") for name, problem in self.problems.items()]
        return len(reasons) == len(self.outcomes) > 1 and len(set(reasons)) == 1

    def outcome(self, cell: Combination) -> Outcome:
        """How a cell ended."""
        return self.outcomes.get(cell.name, "not begun")


def sweep(
    cells: Sequence[Combination],
    runs: Path,
    world: World,
    show: Callable[[], Show],
    tell: Callable[[Sweep, Combination], None] = lambda sweep, cell: None,
) -> Sweep:
    """Train every cell that is not finished yet, in order.

    show: what a session shows, made anew for each. tell: called before each cell (it has no outcome yet) and
    after it. A cell that fails is named, and the next one begun, unless
    the first two failed alike. Ctrl-C ends the sweep after the step in
    hand: the same sweep goes on where it was.
    """
    done = Sweep(cells)
    for cell in cells:
        tell(done, cell)
        try:
            done.outcomes[cell.name] = finish(cell.recipe, runs, cell.name, world, show)
        except KeyboardInterrupt:
            done.outcomes[cell.name] = "stopped"
        except Exception as error:
            if world.size > 1:
                raise  # the other processes wait for this one: going on would part them
            done.outcomes[cell.name] = "failed"
            done.problems[cell.name] = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
        tell(done, cell)
        if done.stopped or done.hopeless:
            break
    return done
