"""Distance against network evaluations, for every sampler, on a trained run; the defaults follow from it.

    python benchmarks/samplers.py RUN [samples]

Every number is `safelight evaluate` of the same noises and conditions with the settings of the run's recipe,
sampler and steps apart. Heun evaluates twice in an interval: it gets the most intervals that stay within the
budget. The line to reach is DDIM in 250 evaluations, measured with two seeds to tell the noise of a number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from safelight.evaluate.evaluation import Evaluation
from safelight.run import Run
from safelight.samplers.solvers import evaluations, intervals_for
from safelight.store.directory import runs_directory

BUDGETS = (4, 6, 8, 10)  # evaluations
SAMPLES = 1000
REFERENCE = 250
# ddim is not among them: it is euler, and with eta = 1 ancestral
SAMPLERS = ("euler", "heun", "ancestral", "dpmpp_2m", "unipc", "ipndm")


def settings(sampler: str, budget: int) -> dict[str, object]:
    """Keys of [sample] for a sampler within a budget of evaluations."""
    return {"sample.sampler": sampler, "sample.steps": intervals_for(sampler, budget)}


def distance(evaluation: Evaluation) -> float:
    """The Fréchet distance, which an evaluation tells first."""
    return next(iter(evaluation.results.values())).value


def row(title: str, cells: Mapping[int, float], best: float) -> str:
    """A row of the table; what reaches the line is set in bold."""
    words = [f"**{value:.3f}**" if value <= best else f"{value:.3f}" for value in cells.values()]
    return f"| {title} | {' | '.join(words)} |"


def main() -> None:
    """Measure and print the table."""
    run = Run.open(sys.argv[1], runs_directory(None))
    n = int(sys.argv[2]) if len(sys.argv) > 2 else SAMPLES
    begun = time.process_time()
    ddim = settings("ddim", REFERENCE)
    lines = [run.evaluate(n, seed=seed, how=ddim) for seed in (0, 1)]
    line, other = map(distance, lines)
    metric, result = next(iter(lines[0].results.items()))
    print(f"{run.name} at step {run.step:,}, {n:,} samples; {lines[0].basis['extractor']}")
    print(f"{metric} of ddim in {REFERENCE}: {line:.3f} with seed 0, {other:.3f} with seed 1", end="; ")
    print(f"real against real {result.floor:.3f}. Bold: no more than the larger of the two.\n", flush=True)
    print(f"| evaluations, at most | {' | '.join(map(str, BUDGETS))} |\n|---|{'---:|' * len(BUDGETS)}")
    for name in SAMPLERS:
        cells = {budget: distance(run.evaluate(n, how=settings(name, budget))) for budget in BUDGETS}
        used = [evaluations(name, intervals_for(name, budget)) for budget in BUDGETS]
        title = name if used == list(BUDGETS) else f"{name} ({', '.join(map(str, used))})"
        print(row(title, cells, max(line, other)), flush=True)
    print(f"\n{time.process_time() - begun:.0f} s of processor time")


if __name__ == "__main__":
    main()
